"""Acceptance of masks for training: a filter over the stored scores of a mask set.

The scores of a set are a small table. A rule ranks its rows, and the result is one small file beside the set
(``MaskSet.write_acceptance``), so a new rule takes seconds and never recomputes masks.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fss.collection import MaskSet
from fss.collection.acceptance_file import ACCEPTANCE_SCHEMA
from fss.collection.config import AcceptanceRule
from fss.collection.schema import ALL_SCORES, GATES, HARD_GATES, QUALITY_SCORES, without_error
from fss.core.config import to_dict

CLUSTER = "cluster"
"""Optional column with the cluster of each image, int64; relabelled sets add it to the table of scores."""
Rows = npt.NDArray[np.int64]


def read_scores(masks: MaskSet, parts: Sequence[str], names: Sequence[str] = ALL_SCORES + GATES) -> pa.Table:
    """Read scores and gates of some parts, without decoding masks.

    Returns:
        One row per image in the order of the parts: ``image_id``, ``error``, ``part`` (index in ``parts``, int32) and
        ``row`` (int32), and the scores and gates ``names`` as columns, null if they are missing.
    """
    return pa.concat_tables(score_tables(masks, parts, names))


def score_tables(masks: MaskSet, parts: Sequence[str], names: Sequence[str] = ALL_SCORES + GATES) -> Iterator[pa.Table]:
    """Yield the table of :func:`read_scores` for a few hundred parts at a time."""
    first = 0
    for sizes, table in masks.parts.groups(parts, ["image_id", "scores", "error"]):
        yield _flatten_scores(table, first, sizes, names)
        first += len(sizes)


def quality(table: pa.Table, scores: Sequence[str] = QUALITY_SCORES) -> npt.NDArray[np.float64]:
    """Return the mean rank in [0, 1] over some scores for each row of a table of :func:`read_scores`, float64 [N].

    Rows that lack a score get nan. Scores are ranked within the table, so scores of different scales weigh the same.
    Ties share their mean rank.
    """
    complete = _has_scores(table, scores)
    result = np.full(table.num_rows, np.nan)
    if complete.any():
        result[complete] = _ranked_mean(_floats(table, name)[complete] for name in scores)
    return result


def _ranked_mean(scores: Iterable[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Return the mean over scores, [N] each, of the ranks in [0, 1] of their values: [N].

    The scores are ranked one at a time, because that takes several times the memory of the values.
    """
    from scipy.stats import rankdata  # takes 0.4 s to import; most commands never rank

    ranks, count = 0.0, 0
    for values in scores:
        ranks = ranks + (rankdata(values) - 1) / max(1, len(values) - 1)
        count += 1
    return np.asarray(ranks / count, np.float64)


def _has_scores(table: pa.Table, scores: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return whether each row has all of some scores, bool [N]."""
    result = np.ones(table.num_rows, np.bool_)
    for name in scores:
        result &= ~np.isnan(_floats(table, name))
    return result


def passes_gates(table: pa.Table, gates: Sequence[str] = HARD_GATES) -> npt.NDArray[np.bool_]:
    """Return whether the mask of each row passes every gate, bool [N]; False for rows without a mask."""
    result = without_error(table)
    for gate in gates:
        result = result & gate_values(table, gate)
    return result


def gate_values(table: pa.Table, gate: str) -> npt.NDArray[np.bool_]:
    """Return one gate of each row, bool [N]; False if it is missing."""
    return np.asarray(pc.fill_null(table.column(gate), False).to_numpy(), np.bool_)


def select_rows(table: pa.Table, rule: AcceptanceRule) -> Rows:
    """Return the indices of the rows that a trainer may use, int64, best first; ties are ordered by image id.

    See :func:`rank_rows`.
    """
    rows, _, accepted = rank_rows(table, rule)
    selected: Rows = rows[accepted]
    return selected


def rank_rows(table: pa.Table, rule: AcceptanceRule) -> tuple[Rows, npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Rank the rows that pass every gate and have every score, R of them, best first; ties are ordered by image id.

    Args:
        table: table of :func:`read_scores`, with a column ``cluster`` if the rule ranks within clusters.
        rule: scores, gates and share of the masks to accept.

    Returns:
        The indices of the rows, int64 [R], their quality, float64 [R], and whether each is accepted, bool [R].

    Raises:
        ValueError: the rule is invalid, or the set has no scores or clusters that it needs.
    """
    scored = _has_scores(table, rule.scores)
    valid = passes_gates(table, rule.gates)
    # If no image has an object, every gate is present but False, and the scores may be undefined.
    all_rejected = any(table.column(gate).null_count < table.num_rows for gate in rule.gates) and not valid.any()
    if passes_gates(table, ()).any() and not scored.any() and not all_rejected:
        raise ValueError(f"no mask has all of the scores {', '.join(rule.scores)}; choose scores that the set has")
    rows = np.flatnonzero(valid & scored)
    columns = [*rule.scores, *([CLUSTER] if rule.within_clusters and CLUSTER in table.column_names else [])]
    ranked = table.select(columns).take(rows)
    groups = _clusters(ranked) if rule.within_clusters else np.zeros(len(rows), np.int8)
    qualities, accepted = np.zeros(len(rows)), np.zeros(len(rows), bool)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        qualities[members] = quality(ranked.take(members), rule.scores)
    del ranked
    # Arrow sorts the ids without a Python object for each of them.
    keys = pa.table({"quality": -qualities, "image_id": table.column("image_id").take(rows)})
    order = pc.sort_indices(keys, [("quality", "ascending"), ("image_id", "ascending")]).to_numpy()
    del keys
    for group in np.unique(groups):
        best = order[groups[order] == group]
        accepted[best[: round(rule.quantile * len(best))]] = True
    return rows[order], qualities[order], accepted[order]


def write_acceptance(masks: MaskSet, name: str, table: pa.Table, rule: AcceptanceRule) -> Rows:
    """Apply a rule, write the acceptance ``name`` of the set, and return the rows of :func:`select_rows`."""
    rows, ranked_quality, ranked_accepted = rank_rows(table, rule)
    accepted, qualities = np.zeros(table.num_rows, bool), np.full(table.num_rows, np.nan, np.float32)
    accepted[rows], qualities[rows] = ranked_accepted, ranked_quality
    columns = [table.column("image_id"), pa.array(accepted), pa.array(qualities, from_pandas=True)]
    masks.write_acceptance(name, to_dict(rule), pa.table(columns, schema=ACCEPTANCE_SCHEMA))
    selected: Rows = rows[ranked_accepted]
    return selected


def _clusters(table: pa.Table) -> npt.NDArray[np.int64]:
    if CLUSTER not in table.column_names:
        raise ValueError("this mask set has no clusters to rank within; use within_clusters with a relabelled set only")
    return np.asarray(table.column(CLUSTER).to_numpy(), np.int64)


def _flatten_scores(table: pa.Table, first: int, sizes: Sequence[int], names: Sequence[str]) -> pa.Table:
    """Return the table of scores of parts of some sizes; ``first`` is the index of the first part."""
    scores = table.column("scores").combine_chunks()
    columns = {
        "image_id": table.column("image_id"),
        "error": table.column("error"),
        "part": pa.array(np.repeat(np.arange(first, first + len(sizes), dtype=np.int32), sizes)),
        "row": pa.array(np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])),
    }
    columns |= {name: pc.struct_field(scores, name) for name in dict.fromkeys(names)}
    return pa.table(columns)


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(pc.fill_null(table.column(name).cast(pa.float64()), np.nan).to_numpy(), np.float64)
