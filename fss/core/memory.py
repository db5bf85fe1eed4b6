"""The memory of tensors on CPUs."""

import ctypes
import os
from functools import cache

KEPT_BYTES = 1 << 30
"""Most freed memory that a process keeps for its next tensors."""
ARENAS = "MALLOC_ARENA_MAX"
"""Environment variable with the number of a process's arenas: only the first one keeps large blocks."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # parameters of mallopt(3)
_USERS_OWN = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}


@cache
def keep_freed_memory() -> bool:
    """Keep up to 1 GiB of freed memory in this process for its next tensors, and return whether that is possible.

    Otherwise glibc, the C library of most Linux systems, asks the kernel for every block above 32 MB, and returns it
    when a tensor is freed. The kernel fills all pages of the next one with zeros, which takes up to a quarter of the
    time of a network. Settings of the user's own in the environment stay as they are.

    Threads that start later share the memory. One that has allocated already has an arena of its own, unless
    ``MALLOC_ARENA_MAX`` was 1 when the process started, as in the workers of the jobs.
    """
    if _USERS_OWN & os.environ.keys():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # macOS and musl have none
    if mallopt is None:
        return False
    if ARENAS not in os.environ:
        mallopt(_ARENA_MAX, 1)
    return all(mallopt(parameter, KEPT_BYTES) for parameter in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
