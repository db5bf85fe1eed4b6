"""Nearest neighbours and clusters of pictures by their features, exact for thousands and inverted lists for millions.

Searches are made part by part, always with the same rows: a killed and resumed search gives the same neighbours.
"""

from collections.abc import Collection as Ids
from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from fss.collection import MaskSet
from fss.core.arrays import Float32
from fss.core.rng import keyed_rng
from fss.relabel import feature_tables
from fss.relabel.config import RelabelConfig

FLAT_LIMIT = 100_000  # up to so many an exact search costs less than building lists
SLACK = 8  # further neighbours to fetch, for copies of the picture itself
PER_CLUSTER = 20  # pictures that a cluster has on average at least


@dataclass(frozen=True)
class Neighbour:
    """A picture near another one."""

    image_id: str
    similarity: float


class Neighbours:
    """A searchable bank of pictures."""

    def __init__(self, image_ids: Sequence[str], features: Float32, *, flat_limit: int = FLAT_LIMIT):
        """Build the bank.

        Args:
            image_ids: N pictures.
            features: [N,D], each of length 1.
            flat_limit: up to so many pictures the search is exact.
        """
        self.image_ids = list(image_ids)
        count, dims = features.shape
        lists = round(4 * np.sqrt(count))
        kind = "Flat" if count <= flat_limit else f"IVF{lists},SQ8"
        self._index = faiss.index_factory(dims, kind, faiss.METRIC_INNER_PRODUCT)
        if count > flat_limit:
            faiss.ParameterSpace().set_index_parameter(self._index, "nprobe", max(8, lists // 64))
            self._index.train(features)
        self._index.add(features)

    def search(self, image_ids: Sequence[str], features: Float32, count: int) -> list[list[Neighbour]]:
        """Return up to ``count`` neighbours of each picture, nearest first; never itself nor a copy of its bytes.

        Args:
            image_ids: M pictures.
            features: [M,D], each of length 1.
            count: neighbours of each.
        """
        similarity, places = self._index.search(features, min(count + SLACK, len(self.image_ids)))
        found = []
        for image_id, values, rows in zip(image_ids, similarity, places, strict=True):
            near = [
                Neighbour(self.image_ids[row], float(value))
                for value, row in zip(values, rows, strict=True)
                if row >= 0 and not _same_picture(self.image_ids[row], image_id)
            ]
            found.append(sorted(near, key=lambda other: (-other.similarity, other.image_id))[:count])
        return found


class Clusters:
    """k-means of features on the sphere."""

    def __init__(self, features: Float32, count: int, *, seed: int):
        """Find at most ``count`` clusters of features [N,D], one for every 20 of them at most."""
        count = max(1, min(count, len(features) // PER_CLUSTER))
        self._kmeans = faiss.Kmeans(
            features.shape[1], count, niter=20, seed=seed, spherical=True, min_points_per_centroid=1
        )
        self._kmeans.train(features)

    def assign(self, features: Float32) -> npt.NDArray[np.int64]:
        """Return the cluster of each row of [M,D]."""
        return np.asarray(self._kmeans.index.search(features, 1)[1][:, 0], np.int64)


def find_neighbours(
    masks: MaskSet, parts: Sequence[str], config: RelabelConfig, *, accepted: Ids[str] | None = None
) -> dict[str, int]:
    """Search the neighbours and the cluster of every picture and write them part by part, beside the features.

    Args:
        masks: the set that is being made; its features are there.
        parts: of the collection.
        config: how many, from how large a bank.
        accepted: pictures that may be supports, where not all with a mask may.

    Returns:
        Counts: pictures with a feature, and pictures in the bank.

    Raises:
        ValueError: no picture may be a support.
    """
    ids, features, masked, sizes = _load(masks, parts)
    usable = np.array([ok and (accepted is None or name in accepted) for name, ok in zip(ids, masked, strict=True)])
    candidates = np.flatnonzero(usable)
    if not len(candidates):
        raise ValueError("no picture has an accepted mask, so none can be a support; make or accept masks first")
    drawn = keyed_rng(config.seed, item=len(candidates), purpose="relabel.bank").permutation(len(candidates))
    candidates = np.sort(candidates[drawn[: config.bank]])
    counts = {"pictures with a feature": len(ids), "pictures in the bank": len(candidates)}
    todo = [part for part in parts if part not in feature_tables.finished(masks, "neighbours")]
    if not todo:
        return counts
    bank = Neighbours([ids[row] for row in candidates], features[candidates])
    clusters = Clusters(features, config.clusters, seed=config.seed)
    starts = dict(zip(parts, np.cumsum([0, *sizes]).tolist(), strict=False))
    lengths = dict(zip(parts, sizes, strict=True))
    for part in todo:
        rows = slice(starts[part], starts[part] + lengths[part])
        near = bank.search(ids[rows], features[rows], config.shots * config.sets)
        groups = clusters.assign(features[rows]).tolist()
        found = dict(zip(ids[rows], zip(near, groups, strict=True), strict=True))
        every = feature_tables.read(masks, "features", part).column("image_id").to_pylist()
        feature_tables.write(masks, "neighbours", part, [_row(image_id, found.get(image_id)) for image_id in every])
    return counts


def _load(masks: MaskSet, parts: Sequence[str]) -> tuple[list[str], Float32, list[bool], list[int]]:
    """All features: ids, [N,D], whether there is a mask, and how many of N each part has."""
    ids: list[str] = []
    masked: list[bool] = []
    blocks: list[Float32] = []
    sizes: list[int] = []
    for part in parts:
        table = feature_tables.read(masks, "features", part)
        table = table.filter(table.column("feature").is_valid())
        ids += table.column("image_id").to_pylist()
        masked += table.column("masked").to_pylist()
        values = table.column("feature").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        blocks.append(np.asarray(values, np.float32))
        sizes.append(table.num_rows)
    if not ids:
        raise ValueError(f"no picture of {masks.collection.uri} is usable; see the errors of its image parts")
    features = np.concatenate(blocks).reshape(len(ids), -1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return ids, features, masked, sizes


def _row(image_id: str, found: tuple[list[Neighbour], int] | None) -> dict[str, object]:
    near, cluster = found or ([], None)
    return {
        "image_id": image_id,
        "cluster": cluster,
        "supports": [other.image_id for other in near],
        "similarity": [other.similarity for other in near],
    }


def _same_picture(a: str, b: str) -> bool:
    return a.split("-")[0] == b.split("-")[0]
