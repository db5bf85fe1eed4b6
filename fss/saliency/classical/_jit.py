"""A typed door to numba: compiled once per machine, cached on disk, one thread."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a loop over pixels; the first call compiles, later processes read the cache beside the source."""
    return cast("Callable[P, R]", numba.njit(cache=True, nogil=True)(function))
