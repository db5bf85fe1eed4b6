"""A cache of decoded canvases in a memory-mapped file, which all workers, processes and runs of a machine share.

The file is sparse: it has room for all canvases, and takes disk space only for those that were stored. Processes may
write it at the same time, because they write the same bytes, and a canvas counts as stored only after its last byte.
It may be deleted at any time; missing canvases are decoded again. Every user holds a shared lock on the file. Files in
the temporary folder are deleted by their last user, and those of killed processes by the next process that caches.
"""

import fcntl
import mmap
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from fss.core.arrays import UInt8
from fss.core.system import memory_bytes

GIGABYTE = 1e9
_PREFIX = "canvases-"
_SHARE = 0.5  # of the memory, since the system keeps recently used pages of the file there, and of the free disk


def temporary_folder() -> Path:
    """Return the folder of the caches that no setting places elsewhere, one per user."""
    return Path(tempfile.gettempdir()) / f"fss-canvases-{os.getuid()}"


class CanvasCache:
    """A fixed number of slots for canvases, uint8 [channels, size, size]."""

    def __init__(
        self, slots: int, size: int, *, channels: int = 3, gigabytes: float | None, folder: Path | None = None, key: str
    ):
        """Open a cache.

        Args:
            slots: number of canvases; those that exceed the limit are never stored.
            size: side of a canvas, in pixels.
            channels: planes of a canvas.
            gigabytes: maximum size; 0 stores nothing. None: half of the memory, and at most half of the free disk.
            folder: folder on a local disk, which keeps the file; None uses a temporary file.
            key: identifies the content of the slots; it is part of the file's name.

        Raises:
            ValueError: the folder cannot be written.
        """
        self._settings = {"size": size, "channels": channels, "folder": folder, "key": key}
        self.slots, self.capacity, self._disk_full = slots, 0, False
        if gigabytes == 0 or not slots:
            return
        home = folder or temporary_folder()
        path = home / f"{_PREFIX}{key}-{channels}x{size}-{slots}"
        self._start = -(-slots // mmap.PAGESIZE) * mmap.PAGESIZE  # the flags of the slots lie before the canvases
        self._bytes = channels * size * size
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = _open_locked(path, self._start + slots * self._bytes)
        except OSError as error:
            raise ValueError(
                f"canvases cannot be cached in {home}: {error}. Name a folder on a local disk with "
                "--cache-folder, or cache nothing with --cache-gb 0."
            ) from error
        self.close = weakref.finalize(self, _release, self._file, None if folder else path)
        """Closes the cache, and deletes a temporary file that nobody else uses."""
        if folder is None:
            _delete_unused(home, path)
        if gigabytes is None:
            limit = _default_limit(home, taken=os.fstat(self._file).st_blocks * 512)
        else:
            limit = gigabytes * GIGABYTE
        self.capacity = min(slots, int(limit // self._bytes))
        mapped = np.frombuffer(mmap.mmap(self._file, 0, prot=mmap.PROT_READ), np.uint8)
        self._filled = mapped[:slots]
        self._canvases = mapped[self._start :].reshape(slots, channels, size, size)

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the same file in another process."""
        gigabytes = (self.capacity + 0.5) * self._bytes / GIGABYTE if self.capacity else 0
        return _reopen, (self.slots, gigabytes, self._settings)

    def get(self, slot: int) -> UInt8 | None:
        """Return the canvas of a slot, uint8 [channels, size, size], read-only, or None if the slot is empty."""
        return self._canvases[slot] if self.has(slot) else None

    def has(self, slot: int) -> bool:
        """Return whether the slot is filled."""
        return slot < self.capacity and bool(self._filled[slot])

    def put(self, slot: int, canvas: UInt8) -> None:
        """Store a canvas, uint8 [channels, size, size], unless the slot exceeds the limit or the disk is full."""
        if slot < self.capacity and not self._disk_full:
            try:  # writing through the mapping would end the process on a full disk
                os.pwrite(self._file, np.ascontiguousarray(canvas).data, self._start + slot * self._bytes)
                os.pwrite(self._file, b"\1", slot)
            except OSError:
                self._disk_full = True


def _reopen(slots: int, gigabytes: float, settings: dict[str, Any]) -> CanvasCache:
    return CanvasCache(slots, gigabytes=gigabytes, **settings)


def default_gigabytes(folder: Path | None) -> float:
    """Return the maximum size that several caches in a folder have together by default, in gigabytes."""
    return _default_limit(folder if folder and folder.exists() else Path(tempfile.gettempdir())) / GIGABYTE


def _default_limit(folder: Path, taken: int = 0) -> float:
    """Return the maximum size in bytes of caches that take ``taken`` bytes already, which count as free."""
    return _SHARE * min(memory_bytes(), shutil.disk_usage(folder).free + taken)


def _open_locked(path: Path, size: int) -> int:
    """Open or create a file of at least ``size`` bytes, and lock it against deletion by :func:`_release`."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
            if os.fstat(file).st_size < size:
                os.ftruncate(file, size)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except OSError:
            os.close(file)
            raise
        os.close(file)  # it was deleted between opening and locking


def _release(file: int, temporary: Path | None) -> None:
    """Close a file, and delete it if it is temporary and nobody else has it open."""
    try:
        if temporary is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), temporary.stat()):
                temporary.unlink()
    except OSError:  # somebody uses it, or has deleted it
        pass
    finally:
        os.close(file)


def _delete_unused(folder: Path, kept: Path) -> None:
    """Delete the files of processes that were killed."""
    for path in folder.glob(f"{_PREFIX}*"):
        if path != kept:
            try:
                _release(os.open(path, os.O_RDWR), path)
            except OSError:
                continue  # another process was faster
