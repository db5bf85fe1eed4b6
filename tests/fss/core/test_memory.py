"""Freed memory is kept for the next tensors, unless the user decides otherwise."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource
from fss.core.memory import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
print(keep_freed_memory())
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(1 << 26)
    libc.memset(block, 1, 1 << 26)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def second_block(**environment: str) -> tuple[str, int]:
    """Return whether freed memory is kept, and the page faults of a second block of 64 MiB."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=others | environment, check=True, capture_output=True, text=True
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt belongs to Linux")
def test_a_block_takes_the_place_of_the_freed_one() -> None:
    kept, faults = second_block()
    assert kept == "True"
    assert faults < 100


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_the_users_own_settings_stay(name: str) -> None:
    kept, faults = second_block(**{name: "131072"})
    assert kept == "False"
    assert faults > 100
