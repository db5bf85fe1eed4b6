"""What the streams of episodes share: work ahead of the training, and held-out tasks in batches."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from fss.core.prefetch import prefetch
from fss.episodes.episode import RawEpisodes
from fss.training.decode_pool import DecodePool
from fss.training.few_shot.config import StreamConfig


class EpisodeStream(Protocol):
    """A source of episodes for the training loop."""

    image_size: int
    """Side of the rendered images, in pixels."""
    steps_per_epoch: int
    """Number of steps in an epoch, the same on all workers."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[RawEpisodes]:
        """Yield this worker's share of each step of an epoch, from step ``start`` on."""


class PreparedStream:
    """A stream whose episodes a thread prepares ahead of their use."""

    config: StreamConfig
    """How far the thread works ahead."""
    _pin: bool
    """Whether the batches lie in page-locked memory, for a GPU."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[RawEpisodes]:
        """Yield this worker's share of each step of an epoch, from step ``start`` on; threads work ahead."""
        return self._ahead(self._epoch(epoch, start))

    def _epoch(self, epoch: int, start: int) -> Iterator[RawEpisodes]:
        raise NotImplementedError

    def _ahead(self, episodes: Iterator[RawEpisodes]) -> Iterator[RawEpisodes]:
        return prefetch(map(RawEpisodes.pin_memory, episodes) if self._pin else episodes, self.config.ahead)


class HeldOutTasks(PreparedStream):
    """A stream with held-out tasks, in batches."""

    _decoders: DecodePool[Any, Any]

    def held_out_sizes(self, limit: int | None = None) -> list[int]:
        """Return the number of tasks in each held-out batch, for at most ``limit`` tasks."""
        return [len(rows) for rows in self._held_out_batches(limit)]

    def held_out(self, limit: int | None = None, *, only: Sequence[int] | None = None) -> Iterator[RawEpisodes]:
        """Yield the held-out tasks in batches, at most ``limit`` tasks; a thread works ahead.

        They do not depend on the seed, split and augmentation of the training, so that runs are comparable.

        Args:
            limit: largest number of tasks; None takes all.
            only: numbers of the batches to yield; None yields all.
        """
        batches = self._held_out_batches(limit)
        chosen = batches if only is None else [batches[number] for number in only]
        return self._ahead(self._decoders.build(map(self.read_held_out, chosen)))

    def read_held_out(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Read what the held-out tasks of some rows are built from."""
        raise NotImplementedError

    def _held_out_batches(self, limit: int | None) -> Sequence[Sequence[Any]]:
        raise NotImplementedError
