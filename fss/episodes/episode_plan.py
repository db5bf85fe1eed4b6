"""Episode plans: saved tables of episodes, whose hash accompanies every reported metric."""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fss.core import storage
from fss.core.arrays import Int64
from fss.core.rng import keyed_rng
from fss.episodes.config import DrawMode

_METADATA = b"fss.plan"
_NAMED = 5  # small classes that an error names
SCHEMA = pa.schema(
    [
        pa.field("episode", pa.int64(), nullable=False),
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("support_ids", pa.list_(pa.string()), nullable=False),
    ]
)


class ImageEntry(Protocol):
    """An entry of a class index."""

    @property
    def image_id(self) -> str:
        """Id of an image that shows the class."""


class Episode(NamedTuple):
    """One row of a plan."""

    number: int
    class_id: int
    query_id: str
    support_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EpisodePlan:
    """Episodes and the protocol they were sampled with."""

    episodes: tuple[Episode, ...]
    """Rows of the plan, in order."""
    protocol: str
    """Protocol of the sampling: "ours", or the name of a published protocol."""
    seed: int
    """Seed of the sampling."""
    shots: int
    """Supports per episode."""
    fingerprint: str = ""
    """Fingerprint of the collection of the images."""

    @property
    def hash(self) -> str:
        """Hash of all episodes and of the sampling, 16 hex digits."""
        text = json.dumps([self._metadata(), self.episodes], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def classes(self) -> list[int]:
        """Sorted ids of the classes in the plan."""
        return sorted({episode.class_id for episode in self.episodes})

    def image_ids(self) -> set[str]:
        """Return the ids of all images in the plan."""
        return {name for episode in self.episodes for name in (episode.query_id, *episode.support_ids)}

    def __len__(self) -> int:
        return len(self.episodes)

    def __iter__(self) -> Iterator[Episode]:
        return iter(self.episodes)

    def save(self, uri: str) -> None:
        """Write the plan as Parquet, atomically, to a local path or s3:// URI."""
        columns = zip(*self.episodes, strict=True) if self.episodes else [[]] * 4
        table = pa.table(
            [pa.array(list(column), field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA
        )
        table = table.replace_schema_metadata({_METADATA: json.dumps(self._metadata()).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        storage.write_atomically(*storage.resolve(uri), sink.getvalue())

    @classmethod
    def load(cls, uri: str) -> "EpisodePlan":
        """Read a plan.

        Raises:
            OSError: the file is missing or unreadable.
            ValueError: the file is not an episode plan.
        """
        table = pq.read_table(pa.BufferReader(storage.read_bytes(uri)))
        if _METADATA not in (table.schema.metadata or {}) or table.column_names != SCHEMA.names:
            raise ValueError(f"{uri} is not an episode plan (columns {table.column_names}); make one with `make_plan`")
        rows = zip(*(table.column(name).to_pylist() for name in SCHEMA.names), strict=True)
        episodes = tuple(Episode(number, c, query, tuple(supports)) for number, c, query, supports in rows)
        return cls(episodes=episodes, **json.loads(table.schema.metadata[_METADATA]))

    def _metadata(self) -> dict[str, str | int]:
        return {key: value for key, value in asdict(self).items() if key != "episodes"}


SMALL_CLASSES = (
    "use fewer shots, add images, or leave these classes out with --skip-small-classes (in a training "
    "--classes.skip-small-classes, in the main job --evaluate.skip-small-classes, for the gate of a sweep "
    "--gate.skip-small-classes)"
)
"""What to do about classes with too few images."""


def small_classes(counts: Mapping[int, int], shots: int) -> str:
    """Describe the classes that do not have more images than shots, the first few by name; empty if there are none.

    Args:
        counts: number of images by class id.
        shots: supports per episode.
    """
    small = [f"class {c} has {count}" for c, count in counts.items() if count <= shots]
    more = f" and {len(small) - _NAMED} classes more have too few" if len(small) > _NAMED else ""
    return ", ".join(small[:_NAMED]) + more


PERMUTED = 1 << 16
"""Images of a class up to which an episode permutes all of them; a larger class is sampled in constant time."""


class EpisodeSampler:
    """Draws single episodes of a plan, each from its number and a seed alone (see :func:`make_plan`)."""

    def __init__(
        self,
        index: Mapping[int, Sequence[ImageEntry]],
        classes: Iterable[int],
        shots: int,
        draw: DrawMode = "balanced",
    ):
        """Collect the images of the classes.

        Args:
            index: class id to the entries of the images that show it.
            classes: ids of the classes.
            shots: supports per episode.
            draw: ``balanced`` as in :func:`make_plan`; or ``entries``, where each block of as many episodes as there
                are pairs of image and class has every pair once as the query, in random order (HSNet's training on
                PASCAL-5i and FSS-1000, Min et al., ICCV 2021).

        Raises:
            ValueError: there is no class, or classes have fewer than ``shots + 1`` images.
        """
        self._pools, self._shots = _pools(index, sorted(set(classes)), shots), shots
        self._classes, self._balanced = list(self._pools), draw == "balanced"
        self._ends = np.cumsum([len(pool) for pool in self._pools.values()])
        self._block = len(self._classes) if self._balanced else int(self._ends[-1])
        self._order = functools.lru_cache(1)(self._block_order)

    def draw(self, number: int, seed: int) -> Episode:
        """Return an episode of the plan of a seed."""
        block, position = divmod(number, self._block)
        chosen = int(self._order(block, seed)[position])
        index = chosen if self._balanced else int(np.searchsorted(self._ends, chosen, side="right"))
        class_id, pool = self._classes[index], self._pools[self._classes[index]]
        rng = keyed_rng(seed, item=number, purpose="plan.images")
        if self._balanced:
            rows = _draw_distinct(rng, len(pool), self._shots + 1)
        else:
            row = chosen - int(self._ends[index]) + len(pool)
            rows = [row, *(other + (other >= row) for other in _draw_distinct(rng, len(pool) - 1, self._shots))]
        query, *supports = (str(pool[row].as_py()) for row in rows)
        return Episode(number, class_id, query, tuple(supports))

    def _block_order(self, block: int, seed: int) -> Int64:
        purpose = "plan.classes" if self._balanced else "plan.entries"
        return keyed_rng(seed, item=block, purpose=purpose).permutation(self._block)


def make_plan(
    index: Mapping[int, Sequence[ImageEntry]],
    *,
    classes: Sequence[int] | None = None,
    episodes: int,
    shots: int,
    seed: int,
    protocol: str = "ours",
    fingerprint: str = "",
) -> EpisodePlan:
    """Sample an episode plan.

    With protocol ``ours``, episode ``i`` depends only on (seed, i), the classes and their images. Classes are balanced:
    each block of as many episodes as classes contains every class once, in random order. The query is uniform over the
    images of the class, and the supports are sampled from the others without replacement. Plans that differ only in
    ``shots`` have the same queries, and the supports of the smaller plan are the first ones of the larger.

    Args:
        index: class id to the entries of the images that show it, such as a ``ClassIndex``.
        classes: ids of the classes to sample; None samples all classes of the index.
        episodes: number of episodes.
        shots: supports per episode.
        seed: seed of the sampling.
        protocol: name of the protocol; only "ours" is supported.
        fingerprint: fingerprint of the collection, stored with the plan.

    Raises:
        ValueError: the protocol is unknown, or classes have fewer than ``shots + 1`` images.
    """
    if protocol != "ours":
        raise ValueError(f"unknown protocol {protocol!r}; allowed is 'ours'")
    check_plan_size(episodes, shots)
    sampler = EpisodeSampler(index, index if classes is None else classes, shots)
    rows = tuple(sampler.draw(number, seed) for number in range(episodes))
    return EpisodePlan(episodes=rows, protocol=protocol, seed=seed, shots=shots, fingerprint=fingerprint)


def split_small_classes(
    index: Mapping[int, Sequence[ImageEntry]], classes: Iterable[int], shots: int
) -> tuple[list[int], dict[int, int]]:
    """Return the classes that have enough images for a number of shots, and the numbers of images of the others.

    Args:
        index: class id to the entries of the images that show it.
        classes: ids of the classes.
        shots: supports per episode; a class needs one image more.

    Raises:
        ValueError: no class has enough images.
    """
    counts = {c: len(_image_ids(index, c)) for c in sorted(set(classes))}
    small = {c: count for c, count in counts.items() if count <= shots}
    if len(small) == len(counts):
        most = max(counts.values(), default=0)
        raise ValueError(f"{shots} shots need {shots + 1} images of a class, but none has more than {most}")
    return [c for c in counts if c not in small], small


def check_plan_size(episodes: int, shots: int) -> None:
    """Check the numbers of episodes and shots of a plan.

    Raises:
        ValueError: one of them is less than 1.
    """
    if episodes < 1 or shots < 1:
        raise ValueError(f"a plan needs at least 1 episode and 1 shot, got {episodes} and {shots}")


def _pools(index: Mapping[int, Sequence[ImageEntry]], classes: list[int], shots: int) -> dict[int, pa.Array]:
    if not classes:
        raise ValueError("a plan needs at least one class, got none; use a mask set with classes")
    pools = {c: _image_ids(index, c) for c in classes}
    if short := small_classes({c: len(pool) for c, pool in pools.items()}, shots):
        raise ValueError(f"{shots} shots need {shots + 1} images of every class, but {short}; {SMALL_CLASSES}")
    return pools


def _image_ids(index: Mapping[int, Sequence[ImageEntry]], class_id: int) -> pa.Array:
    """Return the sorted ids of the images of a class."""
    entries = index.get(class_id, ())
    compact = getattr(entries, "image_ids", None)  # a ClassIndex holds them as Arrow strings
    ids = pa.array([entry.image_id for entry in entries], pa.large_string()) if compact is None else compact
    ids = pc.unique(ids)
    return ids.take(pc.sort_indices(ids))


def _draw_distinct(rng: np.random.Generator, size: int, count: int) -> list[int]:
    """Draw different numbers below ``size``; the first ones do not depend on ``count``."""
    if size <= PERMUTED:
        return [int(index) for index in rng.permutation(size)[:count]]
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        drawn[int(rng.integers(size))] = None
    return list(drawn)
