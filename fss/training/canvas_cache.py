"""Decoded canvases, kept so that later epochs decode nothing: in memory, or in a file that the workers of a node share.

The file is throw-away: anything missing is decoded again. Workers may fill it side by side, because they would write
the same bytes, and a canvas counts as there only after its last byte is written.
"""

from pathlib import Path

import numpy as np

from fss.core.arrays import UInt8


class CanvasCache:
    """A fixed number of slots of uint8 [size, size, channels]."""

    def __init__(
        self, slots: int, size: int, *, channels: int = 3, limit_bytes: float, folder: Path | None = None, key: str = ""
    ):
        """Open a cache.

        Args:
            slots: canvases that there are; those beyond the limit are never kept.
            size: pixels a side.
            channels: bytes per pixel.
            limit_bytes: most bytes to use; 0 keeps nothing.
            folder: folder on a local disk for the file; None keeps the canvases in memory.
            key: what the slots hold, part of the file's name: another key is another file.
        """
        self.capacity = max(0, min(slots, int(limit_bytes // (size * size * channels))))
        shape = (self.capacity, size, size, channels)
        if folder is None or not self.capacity:
            self._pixels: UInt8 = np.zeros(shape, np.uint8)  # the system commits the pages as they are written
            self._filled: UInt8 = np.zeros(self.capacity, np.uint8)
            return
        folder.mkdir(parents=True, exist_ok=True)
        name = f"canvases-{key}-{size}x{channels}-{self.capacity}"
        self._pixels = _map(folder / f"{name}.pixels", shape)
        self._filled = _map(folder / f"{name}.filled", (self.capacity,))

    def get(self, slot: int) -> UInt8 | None:
        """Return the canvas of a slot, or None where there is none yet."""
        return self._pixels[slot] if self.has(slot) else None

    def has(self, slot: int) -> bool:
        """Tell whether the slot is filled."""
        return slot < self.capacity and bool(self._filled[slot])

    def put(self, slot: int, canvas: UInt8) -> None:
        """Keep a canvas, where there is room."""
        if slot < self.capacity:
            self._pixels[slot] = canvas
            self._filled[slot] = 1


def _map(path: Path, shape: tuple[int, ...]) -> UInt8:
    size = int(np.prod(shape))
    with path.open("ab") as file:  # grows a new file with zeros and leaves an old one as it is
        file.truncate(size)
    return np.memmap(path, np.uint8, "r+", shape=shape)
