"""The parts of the GPU check that say something on a CPU: everything but CUDA, at small sizes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks.gpu.checks import Checks
from tests.benchmarks.gpu_check import SECTIONS, run
from tests.helpers.published_rule import GOLDEN, golden_files

CPU = torch.device("cpu")
WITHOUT = ("ray", "mlflow", "boto3", "optuna", "faiss")
BLOCKED = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {WITHOUT}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
sys.argv = ["gpu_check", "--device", "cpu", "--tiny", "--only", "0", "7", "9"]
from tests.benchmarks.gpu_check import main

sys.exit(main())
"""


def test_the_operators_and_rendering() -> None:
    checks = run(Checks.tiny(CPU), [0, 1, 4])
    assert not checks.failed, checks.results
    assert len([result for result in checks.results.values() if result["limit"] is not None]) == 11
    assert checks.results["4 masksplit twice: largest difference of a weight"]["value"] == 0


def test_an_error_in_a_section_fails_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(checks: Checks) -> None:
        raise RuntimeError("broken")

    monkeypatch.setitem(SECTIONS, 1, (broken,))
    checks = run(Checks.tiny(CPU), [1, 0])
    assert checks.failed and list(checks.results) == ["1 broken ends without an error"]
    late = run(Checks.tiny(CPU), [0], budget_s=-1)
    assert late.failed and list(late.results) == ["0 begins in time"]


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["masksplit", "hsnet", "asnet", "vat"])
def test_a_learner(learner: str) -> None:
    checks = run(Checks.tiny(CPU, learners=(learner,)), [2, 5, 6])
    assert not checks.failed, checks.results


@pytest.mark.slow
@pytest.mark.skipif(not golden_files(), reason="there are no reference outputs")
def test_the_reference_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSS_SHARED_GOLDEN", str(GOLDEN))
    checks = run(Checks.tiny(CPU, learners=("hsnet",)), [3])
    assert not checks.failed and len(checks.results) == 2, checks.results


@pytest.mark.slow
def test_the_measurements_without_ray_and_mlflow() -> None:
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", BLOCKED], cwd=root, capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for words in (
        f"learner hsnet batch 4 precision {Checks.tiny(CPU).fastest}",
        "decoders 2 threads cold",
        "evaluated 5 shot(s) batch 32",
        "masks",
    ):
        assert words in ended.stdout, ended.stdout
