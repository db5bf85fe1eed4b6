"""The parts of the GPU check that say something on a CPU."""

import pytest
import torch

from tests.benchmarks.gpu_check import Checks, run

TINY = "timm:test_resnet.r160_in1k"


def test_the_operators() -> None:
    checks = run(Checks(torch.device("cpu")), [0, 1])
    assert not checks.failed, checks.results
    assert len(checks.results) == 7


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["masksplit", "hsnet", "asnet", "vat"])
def test_a_learner(learner: str) -> None:
    checks = run(Checks(torch.device("cpu"), size=80, backbone=TINY, learners=(learner,)), [2, 5, 6])
    assert not checks.failed, checks.results
