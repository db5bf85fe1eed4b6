"""Every script of the benchmarks starts, and so does the job that one of them starts."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.benchmarks import bench_train
from tests.helpers.commands import parse_command

SCRIPTS = sorted(
    path.stem for path in Path(__file__).parent.glob("*.py") if '\nif __name__ == "__main__":' in path.read_text()
)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"tests.benchmarks.{name}", run_name="__main__", alter_sys=True)
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_the_training_that_is_killed_is_a_command() -> None:
    options = bench_train.Workers(collection="photos", output=Path("runs"), weights="mobilenet_v2.pth")
    parse_command(["python", *bench_train.training(options, "one", workers=2)[1:]])
