"""Episode plans: tables of episodes that are made once, saved, and named by their hash in every reported figure."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from fss.core import storage
from fss.core.rng import keyed_rng

_METADATA = b"fss.plan"
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
        """The picture that shows the class."""


class Episode(NamedTuple):
    """One row of a plan."""

    number: int
    class_id: int
    query_id: str
    support_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EpisodePlan:
    """Episodes, and how they were drawn."""

    episodes: tuple[Episode, ...]
    """The rows, in order."""
    protocol: str
    """How they were drawn: "ours", or the name of a published protocol."""
    seed: int
    """Seed of the draws."""
    shots: int
    """Supports per episode."""
    fingerprint: str = ""
    """Fingerprint of the collection whose images are named."""

    @property
    def hash(self) -> str:
        """16 hex digits over every episode and how it was drawn."""
        text = json.dumps([self._record(), self.episodes], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def classes(self) -> list[int]:
        """Ids of the classes that occur, sorted."""
        return sorted({episode.class_id for episode in self.episodes})

    def image_ids(self) -> set[str]:
        """Return the ids of all pictures that occur."""
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
        table = table.replace_schema_metadata({_METADATA: json.dumps(self._record()).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        storage.write_atomically(*storage.resolve(uri), sink.getvalue())

    @classmethod
    def load(cls, uri: str) -> "EpisodePlan":
        """Read a plan.

        Raises:
            ValueError: the file is no episode plan.
        """
        table = pq.read_table(pa.BufferReader(storage.read_bytes(uri)))
        if _METADATA not in (table.schema.metadata or {}) or table.column_names != SCHEMA.names:
            raise ValueError(f"{uri} is no episode plan (columns {table.column_names}); make one with `make_plan`")
        rows = zip(*(table.column(name).to_pylist() for name in SCHEMA.names), strict=True)
        episodes = tuple(Episode(number, c, query, tuple(supports)) for number, c, query, supports in rows)
        return cls(episodes=episodes, **json.loads(table.schema.metadata[_METADATA]))

    def _record(self) -> dict[str, str | int]:
        return {key: value for key, value in asdict(self).items() if key != "episodes"}


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
    """Draw an episode plan.

    Protocol ``ours``: episode ``i`` depends on (seed, i), the classes and their images only, not on any order. Classes
    are balanced: each block of as many episodes as classes shows every class once, shuffled. The query is uniform
    over the class's images, the supports are drawn from the others without repeats. Plans that differ in ``shots``
    only have the same queries, and the supports of the smaller are the first of the larger.

    Args:
        index: class id to the entries of the images that show it, such as a ``ClassIndex``.
        classes: classes to draw; None draws all of the index.
        episodes: rows of the plan.
        shots: supports per episode.
        seed: of the draws.
        protocol: only "ours" so far.
        fingerprint: of the collection, to be kept with the plan.

    Raises:
        ValueError: an unknown protocol, or classes with fewer than ``shots + 1`` images, all of them named.
    """
    if protocol != "ours":
        raise ValueError(f"unknown protocol {protocol!r}; allowed is 'ours'")
    if episodes < 1 or shots < 1:
        raise ValueError(f"a plan has at least 1 episode and 1 shot, got {episodes} and {shots}")
    pools = _pools(index, sorted(index) if classes is None else sorted(set(classes)), shots)
    rows = tuple(_draw_episode(number, pools, shots, seed) for number in range(episodes))
    return EpisodePlan(episodes=rows, protocol=protocol, seed=seed, shots=shots, fingerprint=fingerprint)


def _pools(index: Mapping[int, Sequence[ImageEntry]], classes: list[int], shots: int) -> dict[int, list[str]]:
    if not classes:
        raise ValueError("a plan needs at least one class, got none; does the mask set name classes?")
    pools = {c: sorted({entry.image_id for entry in index.get(c, ())}) for c in classes}
    short = [f"{c} has {len(pool)}" for c, pool in pools.items() if len(pool) <= shots]
    if short:
        raise ValueError(
            f"{shots} shots need {shots + 1} images of every class, but class {', class '.join(short)}; "
            "leave these classes out, take fewer shots or add images"
        )
    return pools


def _draw_episode(number: int, pools: Mapping[int, list[str]], shots: int, seed: int) -> Episode:
    classes = list(pools)
    block, place = divmod(number, len(classes))
    order = keyed_rng(seed, item=block, purpose="plan.classes").permutation(len(classes))
    class_id = classes[int(order[place])]
    drawn = keyed_rng(seed, item=number, purpose="plan.images").permutation(len(pools[class_id]))[: shots + 1]
    query, *supports = (pools[class_id][int(position)] for position in drawn)
    return Episode(number, class_id, query, tuple(supports))
