"""The end of a job: table, summary.json and exit codes."""

import dataclasses
import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.runtime.result import JobResult, cli_main, read_config, read_result


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    folder: str = "here"
    """Where."""


def made() -> JobResult:
    summary = JobResult(job="ingest", counts={"images": 1200}, metrics={"iou": 0.51234}, run_id="abc")
    with summary.timed("ingest"):
        pass
    return summary


def test_written_and_read_again(tmp_path: Path) -> None:
    made().write(str(tmp_path))
    again = read_result(str(tmp_path))
    assert again is not None
    assert again["counts"] == {"images": 1200}
    assert again["run_id"] == "abc"
    assert "ingest" in again["durations"]
    assert read_result(str(tmp_path / "nothing")) is None


def test_the_table_shows_counts_figures_and_the_run() -> None:
    out = io.StringIO()
    made().show(Console(file=out, width=100))
    assert all(word in out.getvalue() for word in ("1,200", "0.5123", "abc", "durations"))


@pytest.mark.parametrize(
    ("error", "code", "last_line"),
    [
        (ValueError("no photographs in /x; name a folder that has some"), 2, "ingest: error: no photographs in /x"),
        (RuntimeError("disk full"), 1, "ingest: error: RuntimeError: disk full"),
        (KeyboardInterrupt(), 130, "ingest: error: interrupted"),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, last_line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(config: Config) -> JobResult:
        raise error

    monkeypatch.setattr(sys, "argv", ["ingest"])
    with pytest.raises(SystemExit) as stopped:
        cli_main(Config, run, job="ingest", description="Test.")
    assert stopped.value.code == code
    err = capsys.readouterr().err
    assert err.strip().splitlines()[-1].startswith(last_line)
    assert ("Traceback" in err) == (code == 1)


def test_help_shows_a_field_with_its_docstring(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ingest", "--help"])
    with pytest.raises(SystemExit) as stopped:
        cli_main(Config, lambda config: made(), job="ingest", description="Test.")
    assert stopped.value.code == 0
    assert "Where." in capsys.readouterr().out


def test_a_file_gives_settings_that_the_command_line_replaces(tmp_path: Path) -> None:
    file = tmp_path / "best.json"
    file.write_text(json.dumps({"ingest": {"folder": "there"}, "train": {"steps": 3}}))
    assert read_config(Config, ["--config", str(file)], job="ingest") == Config(folder="there")
    assert read_config(Config, ["--config", str(file), "--folder", "x"], job="ingest") == Config(folder="x")
    with pytest.raises(ValueError, match="no settings of 'evaluate'; it has those of ingest, train"):
        read_config(Config, ["--config", str(file)], job="evaluate")
    with pytest.raises(ValueError, match="Config has no setting steps"):
        read_config(Config, ["--config", str(file)], job="train")
    with pytest.raises(ValueError, match="there is no file of settings"):
        read_config(Config, ["--config", str(tmp_path / "no.json")], job="ingest")
