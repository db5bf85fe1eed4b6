"""Damaged files by the hundred; ``tests/benchmarks/fuzz_decode.py`` does it by the million."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.fuzzing import REASONS, check_mask, check_picture, damage, mask_seeds, seeds

SEEDS, MASKS = seeds(), mask_seeds()
pytestmark = pytest.mark.filterwarnings("ignore")


@settings(max_examples=300)
@given(st.sampled_from(range(len(SEEDS))), st.integers(0, 2**32 - 1))
def test_a_damaged_picture_is_a_picture_or_a_reason(number: int, seed: int) -> None:
    assert check_picture(damage(SEEDS[number], np.random.default_rng(seed))) in REASONS | {"ok"}


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_picture_or_a_reason(data: bytes) -> None:
    assert check_picture(data) in REASONS | {"ok"}


@settings(max_examples=200)
@given(st.sampled_from(MASKS), st.integers(0, 2**32 - 1))
def test_a_damaged_mask_is_a_mask_or_refused(data: bytes, seed: int) -> None:
    assert check_mask(damage(data, np.random.default_rng(seed))) in ("ok", "refused")


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_mask_or_refused(data: bytes) -> None:
    assert check_mask(data) in ("ok", "refused")
    assert check_mask(b"\x89PNG\r\n\x1a\n" + data) in ("ok", "refused")


def test_undamaged_masks_are_masks() -> None:
    assert {check_mask(data) for data in MASKS} == {"ok"}
    assert sum(check_picture(data) == "ok" for data in SEEDS) > 40
