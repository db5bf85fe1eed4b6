"""Nearest neighbours and clusters of images by their features.

The search is exact for up to 100,000 candidates. Above, it uses inverted lists with 8 bits per value, and finds 97 to
98 % of the exact neighbours (tests/benchmarks/README.md). It proceeds part by part, always with the same rows, so a
stopped and resumed search gives the same neighbours on any number of processes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fss.collection import MaskSet
from fss.collection.acceptance_file import Acceptance
from fss.core.arrays import Float32, UInt8
from fss.relabel import feature_tables
from fss.relabel.candidates import SearchPlan, count_rows, plan_search, write_candidates
from fss.relabel.config import RelabelConfig

FLAT_LIMIT = 100_000  # images up to which an exact search costs less than building lists
TRAINED = 64  # candidates per inverted list that train the lists
SLACK = 8  # additional neighbours to fetch, because copies of the image itself are dropped


@dataclass(frozen=True)
class Neighbour:
    """A similar image and its cosine."""

    image_id: str
    similarity: float


class Neighbours:
    """A search index over the features of images; an empty one is filled by :meth:`add`."""

    def __init__(self, image_ids: pa.Array, index: faiss.Index):
        self._ids, self._index = image_ids, index

    @classmethod
    def build(cls, image_ids: Sequence[str], features: Float32, *, flat_limit: int = FLAT_LIMIT) -> Self:
        """Build the index of N images from their ids and unit vectors, float32 [N,D].

        The search is exact up to ``flat_limit`` images.
        """
        index = empty_index(features.shape[1], len(features), features, flat_limit=flat_limit)
        index.add(features)
        return cls(pa.array(image_ids, pa.string()), index)

    def search(self, image_ids: Sequence[str], features: Float32, count: int) -> list[list[Neighbour]]:
        """Return up to ``count`` neighbours of each image, nearest first, without the image itself and its copies.

        Args:
            image_ids: ids of M images.
            features: unit vectors, float32 [M,D].
            count: neighbours per image.
        """
        similarity, indices = self._index.search(features, min(count + SLACK, len(self._ids)))
        rows = pa.array(indices.ravel(), mask=indices.ravel() < 0)  # inverted lists may hold too few
        names = np.reshape(self._ids.take(rows).to_pylist(), indices.shape)
        neighbours = []
        for image_id, values, others in zip(image_ids, similarity.tolist(), names.tolist(), strict=True):
            near = [
                Neighbour(other, value)
                for value, other in zip(values, others, strict=True)
                if other is not None and not _same_picture(other, image_id)
            ]
            neighbours.append(sorted(near, key=lambda other: (-other.similarity, other.image_id))[:count])
        return neighbours


def empty_index(dims: int, count: int, sample: Float32, *, flat_limit: int = FLAT_LIMIT) -> faiss.Index:
    """Return an index without vectors, whose kind suits ``count`` unit vectors of ``dims`` dimensions.

    Args:
        dims: dimensions of a vector.
        count: number of vectors that the index will hold.
        sample: vectors that inverted lists are trained on, float32 [M,dims].
        flat_limit: number of vectors up to which the search is exact.
    """
    if count <= flat_limit:
        return faiss.IndexFlatIP(dims)
    lists = count_lists(count)
    index = faiss.index_factory(dims, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    faiss.ParameterSpace().set_index_parameter(index, "nprobe", max(8, lists // 64))
    index.train(sample)
    return index


def count_lists(count: int) -> int:
    """Return the number of inverted lists for ``count`` vectors."""
    return round(4 * math.sqrt(count))


class Clusters:
    """Spherical k-means clusters of features."""

    def __init__(self, index: faiss.Index):
        self._index = index

    @classmethod
    def train(cls, features: Float32, count: int, *, seed: int) -> Self:
        """Cluster features, float32 [N,D], into ``count`` clusters."""
        kmeans = faiss.Kmeans(features.shape[1], count, niter=20, seed=seed, spherical=True, min_points_per_centroid=1)
        kmeans.train(features)
        return cls(kmeans.index)

    def assign(self, features: Float32) -> npt.NDArray[np.int64]:
        """Return the cluster of each row of features [M,D], int64 [M]."""
        return np.asarray(self._index.search(features, 1)[1][:, 0], np.int64)


class SearchData(NamedTuple):
    """A search as plain arrays, which processes of a machine may share without a copy."""

    image_ids: pa.Array
    """Ids of the candidates, string [N]."""
    vectors: UInt8
    """Serialized index of the candidates, uint8 [bytes]."""
    centres: UInt8
    """Serialized index of the clusters' centres, uint8 [bytes]."""

    def open(self) -> "Search":
        """Return the search; its vectors remain in these arrays."""
        neighbours = Neighbours(self.image_ids, _view_index(self.vectors))
        return Search(neighbours, Clusters(_view_index(self.centres)), self)


class Search(NamedTuple):
    """Candidates and clusters that the images of a part are compared with."""

    neighbours: Neighbours
    clusters: Clusters
    data: SearchData
    """Owner of the memory."""


def build_search(
    masks: MaskSet, plan: SearchPlan, config: RelabelConfig, *, flat_limit: int = FLAT_LIMIT
) -> SearchData:
    """Build the search from the tables of candidates, which are read one after the other.

    Args:
        masks: the mask set that the features belong to.
        plan: the rows that were drawn; their tables are written.
        config: the seed of the clusters.
        flat_limit: number of candidates up to which the search is exact.
    """
    count, tables = len(plan.bank), plan.tables()
    step = max(1, count // (TRAINED * count_lists(count)))
    sample, training, positions = [], [], []
    for name in tables:
        table = feature_tables.read(masks, "candidates", name)
        features, drawn = feature_tables.unit_vectors(table), table.column("sample").is_valid().to_numpy()
        sample.append(features[drawn])
        positions.append(table.column("sample").drop_null().to_numpy())
        if count > flat_limit:
            training.append(features[table.column("bank").to_numpy()][::step])
    centres = np.empty((len(plan.sample), sample[0].shape[1]), np.float32)
    centres[np.concatenate(positions)] = np.concatenate(sample)
    clusters = Clusters.train(centres, plan.clusters, seed=config.seed)
    index = empty_index(
        centres.shape[1], count, np.concatenate(training) if training else centres, flat_limit=flat_limit
    )
    ids = []
    for name in tables:
        table = feature_tables.read(masks, "candidates", name)
        table = table.filter(table.column("bank"))
        if table.num_rows:
            index.add(feature_tables.unit_vectors(table))
        ids += table.column("image_id").chunks
    return SearchData(pa.concat_arrays(ids), faiss.serialize_index(index), faiss.serialize_index(clusters._index))


def write_neighbours(masks: MaskSet, part: str, search: Search, config: RelabelConfig) -> int:
    """Write the neighbours and the cluster of every image of a part, and return the number of its images."""
    table = feature_tables.read(masks, "features", part)
    every = table.column("image_id").to_pylist()
    table = table.filter(table.column("feature").is_valid())
    results: dict[str, tuple[list[Neighbour], int]] = {}
    if table.num_rows:
        ids, features = table.column("image_id").to_pylist(), feature_tables.unit_vectors(table)
        near = search.neighbours.search(ids, features, config.shots * config.sets)
        results = dict(zip(ids, zip(near, search.clusters.assign(features).tolist(), strict=True), strict=True))
    feature_tables.write(masks, "neighbours", part, [_row(image_id, results.get(image_id)) for image_id in every])
    return len(every)


def find_neighbours(
    masks: MaskSet, parts: Sequence[str], config: RelabelConfig, *, accepted: Acceptance | None = None
) -> dict[str, int]:
    """Find the neighbours and the cluster of every image in this process, and write them beside the features.

    Args:
        masks: the new mask set, whose features are written already.
        parts: names of the parts of the collection.
        config: number of neighbours, size of the bank, number of clusters and the seed.
        accepted: images that may be supports; None allows every image with a mask.

    Returns:
        Counts: pictures with a feature, and pictures in the bank.

    Raises:
        ValueError: no image has a feature, or none may be a support.
    """
    plan = plan_search(masks, parts, *count_rows(masks, parts, accepted), config)
    finished = feature_tables.finished(masks, "neighbours")
    if missing := [part for part in parts if part not in finished]:
        for table in plan.tables():
            write_candidates(masks, table, plan, accepted)
        search = build_search(masks, plan, config).open()
        for part in missing:
            write_neighbours(masks, part, search, config)
    return plan.counts


def _view_index(data: UInt8) -> faiss.Index:
    """Return a serialized index whose vectors stay where they are."""
    reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(data), data.nbytes)  # type: ignore[attr-defined]  # not in its stubs
    return faiss.read_index(reader)


def _row(image_id: str, result: tuple[list[Neighbour], int] | None) -> dict[str, object]:
    near, cluster = result or ([], None)
    return {
        "image_id": image_id,
        "cluster": cluster,
        "supports": [other.image_id for other in near],
        "similarity": [other.similarity for other in near],
    }


def _same_picture(a: str, b: str) -> bool:
    return a.split("-")[0] == b.split("-")[0]
