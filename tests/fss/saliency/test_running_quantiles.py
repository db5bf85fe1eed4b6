"""Running quantiles against numpy."""

import numpy as np
import pytest

from fss.saliency import running_quantiles
from fss.saliency.running_quantiles import RunningQuantiles

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("scale", [1.0, -3.0, 1e6])
def test_they_are_numpys(exact: bool, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_quantiles, "EXACT", 5_000 if exact else 900)
    values = (np.random.Generator(np.random.Philox(key=1)).beta(2, 5, 4_000) * scale).astype(np.float32)
    quantiles = RunningQuantiles()
    for chunk in np.split(values, [3, 500, 501, 3_000]):
        quantiles.add(np.concatenate([chunk, np.full(2, np.nan, np.float32)]))
    expected = np.quantile(values.astype(np.float64), SHARES)
    if exact:
        assert quantiles.quantiles(SHARES) == [round(float(value), 4) for value in expected]
    else:
        np.testing.assert_allclose(quantiles.quantiles(SHARES), expected, rtol=4e-3, atol=1e-3 * abs(scale))


def test_there_are_none_without_numbers() -> None:
    quantiles = RunningQuantiles()
    quantiles.add(np.full(3, np.nan, np.float32))
    assert quantiles.quantiles(SHARES) == []


def test_signs_and_zeros_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_quantiles, "EXACT", 0)
    quantiles = RunningQuantiles()
    quantiles.add(np.array([2, -1, 0, 1, -2], np.float32))
    np.testing.assert_allclose(quantiles.quantiles((0, 0.25, 0.5, 0.75)), [-2, -1, 0, 1], rtol=1e-3)
