"""Nearest neighbours and clusters of images by their features.

The search is exact for thousands of images and uses inverted lists for millions. It proceeds part by part, always with
the same rows, so a killed and resumed search gives the same neighbours.
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

FLAT_LIMIT = 100_000  # images up to which an exact search costs less than building lists
SLACK = 8  # additional neighbours to fetch, because copies of the image itself are dropped
PER_CLUSTER = 20  # least images per cluster on average


@dataclass(frozen=True)
class Neighbour:
    """A similar image and its cosine."""

    image_id: str
    similarity: float


class Neighbours:
    """A search index over the features of images."""

    def __init__(self, image_ids: Sequence[str], features: Float32, *, flat_limit: int = FLAT_LIMIT):
        """Build the index.

        Args:
            image_ids: ids of N images.
            features: unit vectors, float32 [N,D].
            flat_limit: number of images up to which the search is exact.
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
        """Return up to ``count`` neighbours of each image, nearest first, without the image itself and its copies.

        Args:
            image_ids: ids of M images.
            features: unit vectors, float32 [M,D].
            count: neighbours per image.
        """
        similarity, indices = self._index.search(features, min(count + SLACK, len(self.image_ids)))
        neighbours = []
        for image_id, values, rows in zip(image_ids, similarity, indices, strict=True):
            near = [
                Neighbour(self.image_ids[row], float(value))
                for value, row in zip(values, rows, strict=True)
                if row >= 0 and not _same_picture(self.image_ids[row], image_id)
            ]
            neighbours.append(sorted(near, key=lambda other: (-other.similarity, other.image_id))[:count])
        return neighbours


class Clusters:
    """Spherical k-means clusters of features."""

    def __init__(self, features: Float32, count: int, *, seed: int):
        """Cluster features [N,D] into at most ``count`` clusters of at least 20 images on average."""
        count = max(1, min(count, len(features) // PER_CLUSTER))
        self._kmeans = faiss.Kmeans(
            features.shape[1], count, niter=20, seed=seed, spherical=True, min_points_per_centroid=1
        )
        self._kmeans.train(features)

    def assign(self, features: Float32) -> npt.NDArray[np.int64]:
        """Return the cluster of each row of features [M,D], int64 [M]."""
        return np.asarray(self._kmeans.index.search(features, 1)[1][:, 0], np.int64)


def find_neighbours(
    masks: MaskSet, parts: Sequence[str], config: RelabelConfig, *, accepted: Ids[str] | None = None
) -> dict[str, int]:
    """Find the neighbours and the cluster of every image and write them part by part, beside the features.

    Args:
        masks: the new mask set, whose features are written already.
        parts: names of the parts of the collection.
        config: number of neighbours, size of the bank, number of clusters and the seed.
        accepted: ids of the images that may be supports; None allows every image with a mask.

    Returns:
        Counts: pictures with a feature, and pictures in the bank.

    Raises:
        ValueError: no image may be a support.
    """
    ids, features, masked, sizes = _load(masks, parts)
    usable = np.array([ok and (accepted is None or name in accepted) for name, ok in zip(ids, masked, strict=True)])
    candidates = np.flatnonzero(usable)
    if not len(candidates):
        raise ValueError("no image has an accepted mask, so none can be a support; make or accept masks first")
    order = keyed_rng(config.seed, item=len(candidates), purpose="relabel.bank").permutation(len(candidates))
    candidates = np.sort(candidates[order[: config.bank]])
    counts = {"pictures with a feature": len(ids), "pictures in the bank": len(candidates)}
    finished = feature_tables.finished(masks, "neighbours")
    missing = [part for part in parts if part not in finished]
    if not missing:
        return counts
    bank = Neighbours([ids[row] for row in candidates], features[candidates])
    clusters = Clusters(features, config.clusters, seed=config.seed)
    starts = dict(zip(parts, np.cumsum([0, *sizes]).tolist(), strict=False))
    lengths = dict(zip(parts, sizes, strict=True))
    for part in missing:
        rows = slice(starts[part], starts[part] + lengths[part])
        near = bank.search(ids[rows], features[rows], config.shots * config.sets)
        groups = clusters.assign(features[rows]).tolist()
        by_id = dict(zip(ids[rows], zip(near, groups, strict=True), strict=True))
        every = feature_tables.read(masks, "features", part).column("image_id").to_pylist()
        feature_tables.write(masks, "neighbours", part, [_row(image_id, by_id.get(image_id)) for image_id in every])
    return counts


def _load(masks: MaskSet, parts: Sequence[str]) -> tuple[list[str], Float32, list[bool], list[int]]:
    """Read all features: ids, unit vectors [N,D], whether each image has a mask, and the number of images per part."""
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
        raise ValueError(f"no image of {masks.collection.uri} is usable; see the errors of its image parts")
    features = np.concatenate(blocks).reshape(len(ids), -1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return ids, features, masked, sizes


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
