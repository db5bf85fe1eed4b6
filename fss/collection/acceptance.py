"""Which masks of a set a trainer may use: a filter over the stored scores, made in seconds and changed at will.

Masks are never made again for it: the scores of a set are a small table, the rule ranks its rows, and the result is one
small file beside the set (``MaskSet.write_acceptance``).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fss.collection import MaskSet
from fss.collection.config import AcceptanceRule
from fss.collection.schema import ALL_SCORES, GATES, HARD_GATES, QUALITY_SCORES
from fss.core.config import to_dict

READERS = 8  # parts read at a time: an object store answers late

CLUSTER = "cluster"
"""Column of a picture's cluster, which those add to the table who have clusters."""
Rows = npt.NDArray[np.int64]


def read_scores(masks: MaskSet, parts: Sequence[str]) -> pa.Table:
    """Read what is known about the masks of some parts, without the masks.

    Returns:
        One row per image in the order of the parts: ``image_id``, ``error``, ``part`` (place in ``parts``) and ``row``
        (int32), and every score and gate of the schema as a column, null where there is none.
    """
    with ThreadPoolExecutor(READERS) as pool:
        tables = pool.map(lambda part: masks.read_part(part, ["image_id", "scores", "error"]), parts)
        return pa.concat_tables([_flat(table, place) for place, table in enumerate(tables)])


def quality(table: pa.Table, scores: Sequence[str] = QUALITY_SCORES) -> npt.NDArray[np.float64]:
    """Rank-normalised mean of some scores, 0..1, for each row of :func:`read_scores`' table; nan without scores.

    Ranks are within the table, so that scores of different scales count alike; ties share their mean rank.
    """
    values = np.array([_floats(table, name) for name in scores])
    known = ~np.isnan(values).any(0)
    result = np.full(table.num_rows, np.nan)
    if known.any():
        result[known] = ranked_mean(values[:, known])
    return result


def ranked_mean(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over the scores, [S,N], of the ranks in 0..1 of their values: [N]."""
    from scipy.stats import rankdata  # takes 0.4 s to import; most commands never rank

    ranks = rankdata(scores, axis=1) - 1
    mean: npt.NDArray[np.float64] = np.mean(ranks / max(1, scores.shape[1] - 1), axis=0)
    return mean


def passes_gates(table: pa.Table, gates: Sequence[str] = HARD_GATES) -> npt.NDArray[np.bool_]:
    """Tell for each row of :func:`read_scores`' table whether its mask passes every gate; False without a mask."""
    result = np.asarray(pc.is_null(table.column("error")).to_numpy(), np.bool_)
    for gate in gates:
        result = result & gate_values(table, gate)
    return result


def gate_values(table: pa.Table, gate: str) -> npt.NDArray[np.bool_]:
    """One gate of each row of :func:`read_scores`' table; False where it is not known."""
    return np.asarray(pc.fill_null(table.column(gate), False).to_numpy(), np.bool_)


def select_rows(table: pa.Table, rule: AcceptanceRule) -> Rows:
    """Choose the rows of :func:`read_scores`' table that a trainer may use, best first; ties go by image id.

    Args:
        table: the scores; with a column ``cluster`` where the rule ranks within clusters.
        rule: which to keep.

    Raises:
        ValueError: a rule that cannot be applied, or a set without the scores or the clusters it asks for.
    """
    rule.check()
    unscored = np.isnan(np.array([_floats(table, name) for name in rule.scores])).any(0)
    valid = passes_gates(table, rule.gates)
    # Where nothing was found in any picture, gates are known and all shut, and scores may be undefined.
    judged = any(table.column(gate).null_count < table.num_rows for gate in rule.gates) and not valid.any()
    if passes_gates(table, ()).any() and unscored.all() and not judged:
        raise ValueError(f"no mask has all of the scores {', '.join(rule.scores)}; ask for scores that the set has")
    rows = np.flatnonzero(valid & ~unscored)
    ranked = table.take(rows)
    ids = np.asarray(ranked.column("image_id").to_pylist(), str)
    groups = _clusters(ranked) if rule.within_clusters else np.zeros(len(rows), np.int64)
    worth, kept = np.zeros(len(rows)), np.zeros(len(rows), bool)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        worth[members] = quality(ranked.take(members), rule.scores)
        best = members[np.lexsort((ids[members], -worth[members]))]
        kept[best[: round(rule.quantile * len(best))]] = True
    order = np.lexsort((ids, -worth))
    chosen: Rows = rows[order[kept[order]]]
    return chosen


def write_acceptance(masks: MaskSet, name: str, table: pa.Table, rule: AcceptanceRule) -> Rows:
    """Apply a rule, write the acceptance ``name`` of the set, and return the accepted rows, best first."""
    rows = select_rows(table, rule)
    masks.write_acceptance(name, to_dict(rule), table.column("image_id").take(rows).to_pylist())
    return rows


def _clusters(table: pa.Table) -> npt.NDArray[np.int64]:
    if CLUSTER not in table.column_names:
        raise ValueError("this mask set has no clusters to rank within; only relabelled sets have them")
    return np.asarray(table.column(CLUSTER).to_numpy(), np.int64)


def _flat(table: pa.Table, place: int) -> pa.Table:
    scores = table.column("scores").combine_chunks()
    columns = {
        "image_id": table.column("image_id"),
        "error": table.column("error"),
        "part": pa.array(np.full(table.num_rows, place, np.int32)),
        "row": pa.array(np.arange(table.num_rows, dtype=np.int32)),
    }
    columns |= {name: pc.struct_field(scores, name) for name in ALL_SCORES + GATES}
    return pa.table(columns)


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(pc.fill_null(table.column(name).cast(pa.float64()), np.nan).to_numpy(), np.float64)
