"""Freed memory is kept for the next tensors, unless the user decides otherwise."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, threading
from fss.core.memory import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(1 << 27)
    libc.memset(block, 1, 1 << 27)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(keep_freed_memory(), faults() and faults())
thread = threading.Thread(target=lambda: print(faults()))
thread.start()
thread.join()
"""


def later_blocks(**environment: str) -> tuple[bool, int, int]:
    """Return whether freed memory is kept, and the page faults of a second block of 128 MiB and of one of a thread."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=others | environment, check=True, capture_output=True, text=True
    )
    kept, second, in_thread = done.stdout.split()
    return kept == "True", int(second), int(in_thread)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt belongs to Linux")
def test_a_block_takes_the_place_of_the_freed_one() -> None:
    kept, second, in_thread = later_blocks()
    assert kept
    assert second < 100
    assert in_thread < 100


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_the_users_own_settings_stay(name: str) -> None:
    kept, second, _ = later_blocks(**{name: "131072"})
    assert not kept
    assert second > 100
