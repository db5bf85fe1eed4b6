"""The rows that a neighbour search is built from: candidates for supports, and a sample that clusters are trained on.

The rows are drawn from the numbers of rows of the parts alone, so no process ever holds all features. The parts are
counted first. Then the drawn rows are written to tables, each of which covers some parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import faiss
import numpy as np
import pyarrow as pa

from fss.collection import MaskSet, mask_set_files, part_io
from fss.collection.acceptance_file import Acceptance
from fss.collection.schema import part_name, part_number
from fss.core import storage
from fss.core.arrays import BoolArray, Int64
from fss.core.config import config_hash
from fss.core.rng import keyed_rng
from fss.relabel import feature_tables
from fss.relabel.config import RelabelConfig

PER_CLUSTER = 20  # least images per cluster on average
SAMPLE = 256  # images per cluster that train the clusters, at most; faiss draws no more from a larger sample
TABLE_ROWS = 256  # rows of a table of candidates, roughly
COVERED_ROWS = 65_536  # rows of the parts that a table covers, at most: what a process holds in memory
FOLDERS = ("candidates", "supports")
"""Folders of a mask set's metadata that belong to a plan."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """Rows that are drawn for a search from the parts of a collection."""

    parts: Sequence[str]
    """Names of P parts, in the order of the collection."""
    features: Int64 = field(repr=False)
    """Images of each part that have a feature, int64 [P]."""
    usable: Int64 = field(repr=False)
    """Images of each part that may be supports, int64 [P]."""
    bank: Int64 = field(repr=False)
    """Candidates: sorted numbers among all images that may be supports."""
    sample: Int64 = field(repr=False)
    """Images that the clusters are trained on: numbers among all images with a feature, in the order of training."""
    clusters: int
    """Number of clusters."""

    @property
    def counts(self) -> dict[str, int]:
        """Counts for the result of a job."""
        return {"pictures with a feature": int(self.features.sum()), "pictures in the bank": len(self.bank)}

    def tables(self) -> list[str]:
        """Return the names of the tables of candidates."""
        drawn, covered = len(self.bank) + len(self.sample), int(self.features.sum())
        count = max(-(-drawn // TABLE_ROWS), -(-covered // COVERED_ROWS))
        return [part_name(number) for number in range(min(len(self.parts), count))]

    def covered(self, table: str) -> slice:
        """Return the slice of the parts that a table covers."""
        number, tables, parts = part_number(table), len(self.tables()), len(self.parts)
        return slice(parts * number // tables, parts * (number + 1) // tables)


def count_rows(masks: MaskSet, parts: Sequence[str], accepted: Acceptance | None) -> tuple[list[int], list[int]]:
    """Return how many images of each part have a feature, and how many of them may be supports.

    Args:
        masks: the mask set that the features belong to.
        parts: names of parts.
        accepted: images that may be supports; None: every image with a mask.
    """
    tables = [_without_features(masks, part) for part in parts]
    usable = _usable(pa.concat_tables(tables), accepted)
    ends = np.cumsum([table.num_rows for table in tables])[:-1]
    return [table.num_rows for table in tables], [int(each.sum()) for each in np.split(usable, ends)]


def plan_search(
    masks: MaskSet, parts: Sequence[str], features: Sequence[int], usable: Sequence[int], config: RelabelConfig
) -> SearchPlan:
    """Draw candidates and sample, and make room for their tables.

    Args:
        masks: the mask set that the features belong to.
        parts: names of the parts.
        features: images of each part that have a feature.
        usable: images of each part that may be supports.
        config: size of the bank, number of clusters and the seed.

    Raises:
        ValueError: no image has a feature, or none may be a support.
    """
    total, candidates = sum(features), sum(usable)
    if not total:
        raise ValueError(f"no image of {masks.collection.uri} is usable; see the errors of its image parts")
    if not candidates:
        raise ValueError("no image has an accepted mask, so none can be a support; make or accept masks first")
    order = keyed_rng(config.seed, item=candidates, purpose="relabel.bank").permutation(candidates)
    clusters = max(1, min(config.clusters, total // PER_CLUSTER))
    plan = SearchPlan(
        parts=parts,
        features=np.asarray(features, np.int64),
        usable=np.asarray(usable, np.int64),
        bank=np.sort(order[: config.bank]),
        sample=_cluster_sample(total, clusters, config.seed),
        clusters=clusters,
    )
    _remove_tables_of_other_plans(masks, plan)
    return plan


def write_candidates(masks: MaskSet, table: str, plan: SearchPlan, accepted: Acceptance | None) -> int:
    """Write a table of candidates, and return the number of its rows.

    Args:
        masks: the mask set that the features belong to.
        table: name of the table.
        plan: the rows that are drawn.
        accepted: images that may be supports; None: every image with a mask.
    """
    covered = plan.covered(table)
    parts = plan.parts[covered]
    rows = pa.concat_tables([_numbered(masks, part) for part in parts])
    usable = _usable(rows, accepted)
    counts = [plan.features[covered].sum(), plan.usable[covered].sum()]
    if [len(usable), usable.sum()] != counts:
        raise ValueError(f"the features of {masks.uri} changed during the search; run the relabel job again")
    numbers = int(plan.features[: covered.start].sum()) + np.arange(len(usable))
    ranks = int(plan.usable[: covered.start].sum()) + np.cumsum(usable) - 1
    bank = usable & np.isin(ranks, plan.bank)
    order = np.argsort(plan.sample)
    nearest = order[np.searchsorted(plan.sample, numbers, sorter=order).clip(max=len(order) - 1)]
    sampled = plan.sample[nearest] == numbers
    columns = {"bank": pa.array(bank), "sample": pa.array(nearest, pa.int64(), mask=~sampled)}
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    drawn = rows.filter(pa.array(bank | sampled)).select(feature_tables.CANDIDATES.names)
    feature_tables.write_table(masks, "candidates", table, drawn.cast(feature_tables.CANDIDATES))
    return int(drawn.num_rows)


def _cluster_sample(count: int, clusters: int, seed: int) -> Int64:
    """Return the rows that ``faiss.Kmeans`` of this seed trains on, in its order."""
    if count <= clusters * SAMPLE:
        return np.arange(count)
    order = np.empty(count, np.int32)
    faiss.rand_perm(faiss.swig_ptr(order), count, seed)  # type: ignore[attr-defined]  # not in its stubs
    return order[: clusters * SAMPLE].astype(np.int64)


def _remove_tables_of_other_plans(masks: MaskSet, plan: SearchPlan) -> None:
    """Delete the tables of another plan, which a stopped job with more or fewer parts leaves behind."""
    identity = config_hash([list(plan.parts), plan.usable.tolist(), plan.features.tolist(), plan.bank.tolist()])
    uri = storage.join(masks.metadata_uri, "candidates.json")
    if part_io.exists(uri) and part_io.read_json(uri).get("plan") == identity:
        return
    for folder in FOLDERS:
        tables = storage.join(masks.metadata_uri, folder)
        mask_set_files.delete_files(tables, mask_set_files.list_files(tables))
    part_io.write_json(uri, {"plan": identity})


def _without_features(masks: MaskSet, part: str) -> pa.Table:
    table = feature_tables.read(masks, "features", part)
    return table.filter(table.column("feature").is_valid()).select(["image_id", "masked"])


def _numbered(masks: MaskSet, part: str) -> pa.Table:
    """Return the rows of a part that have a feature, with the name of the part and their numbers in it."""
    table = feature_tables.read(masks, "features", part)
    table = table.append_column("part", pa.array([part] * table.num_rows))
    table = table.append_column("row", pa.array(range(table.num_rows), pa.int32()))
    return table.filter(table.column("feature").is_valid())


def _usable(rows: pa.Table, accepted: Acceptance | None) -> BoolArray:
    masked: BoolArray = rows.column("masked").to_numpy()
    return masked if accepted is None else masked & accepted.contains(rows.column("image_id"))
