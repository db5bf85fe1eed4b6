"""A cache of decoded canvases, in memory or in a file that the workers of a node share.

The file may be deleted at any time; missing canvases are decoded again. Workers may write it concurrently, because they
write the same bytes, and a canvas is marked as filled only after its last byte is written.
"""

from pathlib import Path

import numpy as np

from fss.core.arrays import UInt8

GIGABYTE = 1e9


class CanvasCache:
    """A fixed number of slots for canvases, uint8 [channels, size, size]."""

    def __init__(
        self, slots: int, size: int, *, channels: int = 3, limit_bytes: float, folder: Path | None = None, key: str = ""
    ):
        """Open a cache.

        Args:
            slots: number of canvases; those that exceed the limit are never stored.
            size: side of a canvas, in pixels.
            channels: bytes per pixel.
            limit_bytes: maximum size in bytes; 0 stores nothing.
            folder: folder on a local disk for the file; None stores the canvases in memory.
            key: identifies the content of the slots; it is part of the file's name.
        """
        self.capacity = max(0, min(slots, int(limit_bytes // (size * size * channels))))
        shape = (self.capacity, channels, size, size)
        if folder is None or not self.capacity:
            self._pixels: UInt8 = np.zeros(shape, np.uint8)  # the system allocates pages when they are written
            self._filled: UInt8 = np.zeros(self.capacity, np.uint8)
            return
        folder.mkdir(parents=True, exist_ok=True)
        name = f"planes-{key}-{channels}x{size}-{self.capacity}"
        self._pixels = _map(folder / f"{name}.pixels", shape)
        self._filled = _map(folder / f"{name}.filled", (self.capacity,))

    def get(self, slot: int) -> UInt8 | None:
        """Return the canvas of a slot, uint8 [channels, size, size], or None if the slot is empty."""
        return self._pixels[slot] if self.has(slot) else None

    def has(self, slot: int) -> bool:
        """Return whether the slot is filled."""
        return slot < self.capacity and bool(self._filled[slot])

    def put(self, slot: int, canvas: UInt8) -> None:
        """Store a canvas, uint8 [channels, size, size], unless the slot exceeds the limit."""
        if slot < self.capacity:
            self._pixels[slot] = canvas
            self._filled[slot] = 1


def _map(path: Path, shape: tuple[int, ...]) -> UInt8:
    size = int(np.prod(shape))
    with path.open("ab") as file:  # extends a new file with zeros; an existing file keeps its content
        file.truncate(size)
    return np.memmap(path, np.uint8, "r+", shape=shape)
