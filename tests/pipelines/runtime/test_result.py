"""The result of a job: table and summary.json."""

import io
import json
from pathlib import Path

import pytest
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


def test_outputs_move_with_the_folder_of_the_result(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    outputs = {"model": f"{folder}/model", "results": str(folder), "masks": f"{folder}-more/masks", "decision": "stop"}
    JobResult(job="train", inputs={"key": "k"}, outputs=outputs).write(str(folder))
    folder.rename(tmp_path / "moved")
    earlier = finished_before(str(tmp_path / "moved"), "k")
    assert earlier is not None
    moved = {"model": f"{tmp_path}/moved/model", "results": f"{tmp_path}/moved"}
    assert earlier.outputs == outputs | moved


def test_the_table_shows_counts_metrics_and_the_run() -> None:
    out = io.StringIO()
    made().show(Console(file=out, width=100))
    assert all(word in out.getvalue() for word in ("1,200", "0.5123", "abc", "durations", "runs/[old]"))


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        (
            "accepted",
            250,
            "accepted masks │ 250 masks that the training uses: they pass all checks and rank high enough",
        ),
        ("round-1: accepted masks", 9, "round-1: accepted masks │ 9 masks that the training uses: they"),
        ("photographs: quarantined", 2, "photographs: unusable │ 2 photographs that cannot be used"),
        ("quarantined: truncated", 1, "unusable: truncated │ 1 photographs"),
        ("no mask: empty", 4, "no mask: empty │ 4 images"),
        ("kept step", 1200, "step of the kept model │ 1,200 is the step whose model validated best"),
        ("1-shot backbone passes", 12, "1-shot backbone passes │ 12 images computed by the backbone"),
        ("another", 3, "another │ 3 "),
    ],
)
def test_every_number_says_what_it_counts(key: str, value: int, line: str) -> None:
    out = io.StringIO()
    JobResult(job="x", counts={key: value}).show(Console(file=out, width=150))
    assert line in " ".join(out.getvalue().split())


def test_the_lines_of_a_report_stay_whole() -> None:
    out, line = io.StringIO(), " ".join(["0.5"] * 100)
    JobResult(job="x", report=f"{line}\nnext").show(Console(file=out, width=80))
    assert out.getvalue().splitlines()[:2] == [line, "next"]


def test_the_plan_of_a_dry_run_says_what_it_counts() -> None:
    out = io.StringIO()
    JobResult(job="x (dry run)", metrics={"train": 183, "output folder": "runs"}).show(Console(file=out, width=150))
    assert "plan train │ 183 images to train on" in " ".join(out.getvalue().split())


def test_other_values_are_in_words_too() -> None:
    out, served = io.StringIO(), {"served model": "models:/m-148e"}
    JobResult(job="x", inputs={"protocol": "hsnet-derived"}, outputs=served).show(Console(file=out, width=150))
    assert "published code of HSNet and VAT (protocol hsnet), from lists derived from the masks" in out.getvalue()
    assert "model in MLflow │ models:/m-148e" in " ".join(out.getvalue().split())


def test_several_texts_have_a_row_each() -> None:
    out = io.StringIO()
    metrics = {"about the source": ["3 pictures; no object", "the file has crowds"], "curve": [0.5, 1]}
    JobResult(job="x", metrics=metrics).show(Console(file=out, width=150))
    lines = [" ".join(line.strip("│ ").split()) for line in out.getvalue().splitlines()]
    first = lines.index("metrics about the source │ 3 pictures; no object")
    assert lines[first + 1 : first + 3] == ["the file has crowds", "curve │ [0.5, 1]"]


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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is not valid JSON"),
        ('{"job": "ingest", "inp', "is not valid JSON"),
        ("[]", "contains a JSON list"),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "has no valid job and inputs"),
        ('{"job": "ingest", "inputs": null}', "has no valid inputs"),
        ('{"job": "ingest", "inputs": {"key": "k"}, "notes": null}', "notes must be a list, got None"),
        ('{"job": "ingest", "inputs": {"key": "k"}, "counts": {"images": "x"}}', "counts.images must be a valid int"),
    ],
)
def test_a_damaged_result_is_told_in_one_line(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ValueError, match=reason) as refusal:
        finished_before(str(tmp_path), "k")
    text = str(refusal.value)
    assert str(tmp_path / "summary.json") in text and "Delete it and run its job again" in text and "\n" not in text


def test_a_result_of_a_later_version_is_read(tmp_path: Path) -> None:
    content = {"job": "ingest", "inputs": {"key": "k"}, "counts": {"images": 3}, "from_the_future": 1}
    (tmp_path / "summary.json").write_text(json.dumps(content))
    earlier = finished_before(str(tmp_path), "k")
    assert earlier is not None and earlier.counts == {"images": 3}


def test_a_result_of_the_same_key_alone_has_finished_before(tmp_path: Path) -> None:
    assert finished_before(str(tmp_path), "k") is None
    JobResult(job="ingest", inputs={"key": "k"}, counts={"images": 3}).write(str(tmp_path))
    earlier = finished_before(str(tmp_path), "k")
    assert earlier is not None and not earlier.worked and earlier.counts == {"images": 3}
    assert finished_before(str(tmp_path), "other") is None
    out = io.StringIO()
    earlier.show(Console(file=out, width=100))
    assert "nothing to do, this job had finished before" in " ".join(out.getvalue().split())
