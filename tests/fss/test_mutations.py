"""A small sample of ``tests/benchmarks/mutations.py``: damaged files, requests and names are noticed or harmless."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.mutation_kinds import KINDS
from tests.helpers.mutations import SURVIVED

FAST = {"model folders": 4, "checkpoints": 4, "collections": 4, "label files": 5, "served requests": 5, "odd names": 4}


@pytest.mark.parametrize("count", [1, pytest.param(10, marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize("kind", KINDS)
def test_mutations_are_noticed_or_harmless(kind: str, count: int, tmp_path: Path) -> None:
    trial = KINDS[kind](tmp_path)
    for number in range(count * FAST[kind]):
        done, verdicts = trial(np.random.default_rng([7, number]), number)
        for column, verdict in verdicts.items():
            assert verdict.outcome in SURVIVED, f"{column}: {done}: {verdict.text}"
