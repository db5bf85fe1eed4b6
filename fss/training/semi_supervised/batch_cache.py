"""A cache of batches whose pictures are given by the features of a network's frozen stages.

The views of a training with ``cache_features`` repeat, and so do its batches. A batch is read, augmented and encoded
once; afterwards only the learning layers compute.
"""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from torch import Tensor

from fss.models.semantic.network import LowerMaps
from fss.training.canvas_cache import GIGABYTE

Batch = TypeVar("Batch", bound=tuple[Any, ...])


class BatchCache:
    """Batches by key, up to a number of bytes; batches that do not fit are made again every time."""

    def __init__(self, gigabytes: float):
        """Create an empty cache of at most ``gigabytes``."""
        self._free_bytes = gigabytes * GIGABYTE
        self._batches: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], Batch]) -> Batch:
        """Return the batch of a key; ``make`` is called if it is not in the cache."""
        if (batch := self._batches.get(key)) is None:
            batch = make()
            size = sum(map(_bytes, batch))
            if size <= self._free_bytes:
                self._free_bytes -= size
                self._batches[key] = batch
        return batch


def _bytes(value: Any) -> int:
    if isinstance(value, LowerMaps):
        return value.low.nbytes + value.shared.nbytes
    return value.nbytes if isinstance(value, Tensor) else 0
