"""A typed wrapper of numba's compiler: compiled once per machine, cached on disk, single-threaded."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function with numba on its first call; later processes read the cache beside the source file.

    Where neither the folder of the source file nor the user's cache can be written, every process compiles it.
    """
    try:
        compiled = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        compiled = numba.njit(nogil=True)(function)
    return cast("Callable[P, R]", compiled)
