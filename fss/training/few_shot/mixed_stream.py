"""Episodes of several collections in one training, each drawn with the weight of its collection.

The collection of a draw depends only on (seed, lane, number of the draw), and so does the row that it gets: each
collection has its own lanes and epochs, and goes on where its last draw of the lane ended (see ``MixSchedule``). A
small collection with a large weight starts its next epoch earlier. Workers, threads and resuming change nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import Any, Protocol

from fss.episodes.episode import RawEpisodes
from fss.training.decode_pool import DecodePool, StepBuilder
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.episode_stream import HeldOutTasks
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.task_builder import EncodedRow, RowPosition
from fss.training.lanes import Draw, MixSchedule


class LaneStream(Protocol):
    """A stream whose lanes can be read at any position."""

    image_size: int
    """Side of the rendered images, in pixels."""
    config: StreamConfig
    """Batch size and seed; equal in all streams of a mix."""
    lane_count: int
    """Number of lanes of all workers; a divisor of the batch size."""
    lane_length: int
    """Number of draws that an epoch has in each lane."""

    @property
    def counts(self) -> dict[str, int]:
        """Return the numbers of usable and unusable images."""

    @property
    def lanes(self) -> Sequence[int]:
        """Return the lanes of this worker."""

    @property
    def builder(self) -> StepBuilder[Any, Any]:
        """Builds and joins tasks of what :meth:`read` returns."""

    def read(self, draws: Sequence[Draw]) -> list[Any]:
        """Read what the tasks of some draws are built from."""


@dataclass(frozen=True)
class MixedBuilder:
    """Builds the tasks of several collections."""

    builders: tuple[StepBuilder[Any, Any], ...]
    """Builder of each collection."""

    def build(self, item: tuple[int, Any]) -> Any:
        """Build the task of a collection."""
        source, row = item
        return self.builders[source].build(row)

    def collate(self, items: Sequence[tuple[int, Any]], parts: Sequence[Any]) -> RawEpisodes:
        """Stack the tasks of a step."""
        return self.builders[0].collate([item for _, item in items], parts)


class MixedStream(HeldOutTasks):
    """A stream of episodes from several collections.

    An epoch has as many draws as the collections have rows together. The held-out tasks come from each collection by
    its weight.
    """

    def __init__(self, streams: Sequence[LaneStream], weights: Sequence[float], *, pin_memory: bool = False):
        """Mix streams with the same settings.

        Args:
            streams: this worker's stream of each collection.
            weights: positive weights of the collections; they need not add up to 1.
            pin_memory: put the batches into page-locked memory, for a GPU.
        """
        first = streams[0]
        self.streams, self.config, self.image_size = list(streams), first.config, first.image_size
        self.schedule = MixSchedule(weights, seed=first.config.seed or 0)
        self.lanes, self.take, self._pin = first.lanes, self.config.batch_size // first.lane_count, pin_memory
        self._decoders = DecodePool(MixedBuilder(tuple(stream.builder for stream in streams)), self.config)
        self.steps_per_epoch = max(1, sum(stream.lane_length for stream in streams) // self.take)

    @property
    def counts(self) -> dict[str, int]:
        """Return the sums of the numbers of images over the collections."""
        names = dict.fromkeys(name for stream in self.streams for name in stream.counts)
        return {name: sum(stream.counts.get(name, 0) for stream in self.streams) for name in names}

    def _epoch(self, epoch: int, start: int) -> Iterator[RawEpisodes]:
        yield from self._decoders.build(self._read(epoch, step) for step in range(start, self.steps_per_epoch))

    def draws(self, lane: int, epoch: int, step: int, steps: int) -> list[tuple[int, Draw]]:
        """Return the collection and the draw within it of some steps of a lane."""
        first = (epoch * self.steps_per_epoch + step) * self.take
        return [
            (source, Draw(*divmod(number, self.streams[source].lane_length), lane))
            for source, number in self.schedule.draws(lane, first, steps * self.take)
        ]

    def _held_out_batches(self, limit: int | None) -> list[list[tuple[int, RowPosition]]]:
        """Return the collection and the row of each held-out task, in batches."""
        limits = [None if limit is None else round(limit * weight) or 1 for weight in self.schedule.weights]
        rows = [stream.held_out_rows(most) for stream, most in zip(self._split_streams(), limits, strict=True)]
        turns = chain.from_iterable(zip_longest(*([(source, row) for row in own] for source, own in enumerate(rows))))
        mixed, batch = list(islice((turn for turn in turns if turn is not None), limit)), self.config.batch_size
        return [mixed[n : n + batch] for n in range(0, len(mixed), batch)]

    def read_held_out(self, rows: Sequence[tuple[int, RowPosition]]) -> list[tuple[int, EncodedRow]]:
        """Read the held-out tasks of some rows of the collections."""
        streams = self._split_streams()
        return [(source, row) for source, position in rows for row in streams[source].read_held_out([position])]

    def _split_streams(self) -> list[MaskSplitStream]:
        return [stream for stream in self.streams if isinstance(stream, MaskSplitStream)]

    def _read(self, epoch: int, step: int) -> list[tuple[int, Any]]:
        draws = [draw for lane in self.lanes for draw in self.draws(lane, epoch, step, 1)]
        return [(source, row) for source, draw in draws for row in self.streams[source].read([draw])]
