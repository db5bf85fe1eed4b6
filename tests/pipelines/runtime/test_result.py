"""The result of a job: table and summary.json."""

import io
from pathlib import Path

from rich.console import Console

from pipelines.runtime.result import JobResult, finished_before, read_result


def made() -> JobResult:
    metrics = {"iou": 0.51234, "folder": "runs/[old]"}
    result = JobResult(job="ingest", counts={"images": 1200}, metrics=metrics, run_id="abc")
    with result.timed("ingest"):
        pass
    return result


def test_written_and_read_again(tmp_path: Path) -> None:
    made().write(str(tmp_path))
    again = read_result(str(tmp_path))
    assert again is not None
    assert again["counts"] == {"images": 1200}
    assert again["run_id"] == "abc"
    assert "ingest" in again["durations"]
    assert read_result(str(tmp_path / "nothing")) is None


def test_the_table_shows_counts_metrics_and_the_run() -> None:
    out = io.StringIO()
    made().show(Console(file=out, width=100))
    assert all(word in out.getvalue() for word in ("1,200", "0.5123", "abc", "durations", "runs/[old]"))


def test_verdicts_are_the_last_lines_and_stay_one_line_each(tmp_path: Path) -> None:
    result = made()
    lines = {"model": "the model is NOT ahead of [x] " + "word " * 60, "round-1": "the model is ahead of all"}
    result.verdicts = {name: {"line": line} for name, line in lines.items()}
    out = io.StringIO()
    result.show(Console(file=out, width=80))
    assert out.getvalue().splitlines()[-2:] == [f"verdict: {line}" for line in lines.values()]
    result.write(str(tmp_path))
    again = read_result(str(tmp_path))
    assert again is not None and again["verdicts"]["round-1"] == {"line": lines["round-1"]}


def test_a_result_of_the_same_key_alone_has_finished_before(tmp_path: Path) -> None:
    assert finished_before(str(tmp_path), "k") is None
    JobResult(job="ingest", inputs={"key": "k"}, counts={"images": 3}).write(str(tmp_path))
    earlier = finished_before(str(tmp_path), "k")
    assert earlier is not None and not earlier.worked and earlier.counts == {"images": 3}
    assert finished_before(str(tmp_path), "other") is None
    out = io.StringIO()
    earlier.show(Console(file=out, width=100))
    assert "nothing to do, this job had finished before" in " ".join(out.getvalue().split())
