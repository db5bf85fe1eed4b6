"""Compiled functions where no cache can be written."""

import pytest
from numba.core import caching

from fss.saliency.classical._jit import jit


def test_a_function_is_compiled_where_no_cache_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])

    def double(value: int) -> int:
        return 2 * value

    assert jit(double)(4) == 8
