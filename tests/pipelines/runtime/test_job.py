"""The protocol that every job keeps: dry run, finished before, ownership, the MLflow run, metrics and summary."""

import json
import re
from contextlib import nullcontext
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge

from fss.core.config import flatten, settings, to_dict
from fss.core.lease import LOCK, Owner
from fss.tracking.run import Run, tracking_client
from fss.tracking.settlement import Outcome
from fss.tracking.spool import open_spool
from pipelines.runtime import mlflow_run
from pipelines.runtime.config import FLAT, TrackingConfig
from pipelines.runtime.job import Job
from pipelines.runtime.metric_names import logged_metrics
from pipelines.runtime.output_dir import claim
from pipelines.runtime.result import JobResult
from tests.helpers.stores import fresh_store


@settings
class Colours:
    """Settings of a part of the job."""

    red: float = 0.5
    """Share of red."""


@settings
class PaintConfig:
    """Settings of a job that paints nothing."""

    output: str = ""
    """Folder of the result."""
    steps: Annotated[int, Ge(1)] = 3
    """Steps."""
    colours: Annotated[Colours, FLAT] = field(default_factory=Colours)
    """Colours."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Show and stop."""
    overwrite: bool = False
    """Do it again."""


@pytest.fixture
def config(tmp_path: Path) -> PaintConfig:
    (tmp_path / "store").mkdir()
    tracking = TrackingConfig(uri=fresh_store(tmp_path / "store"), experiment="paint")
    return PaintConfig(output=str(tmp_path / "out"), tracking=tracking)


def paint(config: PaintConfig, error: BaseException | None = None, **more: Any) -> JobResult:
    """Run the job; its key covers the steps alone."""
    options: dict[str, Any] = {"inputs": {"colour": "red"}, "plan": {"strokes": 7}, "claim_as": "a painting"} | more
    with Job("paint", config, key=f"steps-{config.steps}", output_dir=config.output, **options) as job:
        if job.done:
            return job.result
        with job.timed("painting"):
            if error is not None:
                raise error
        job.result.counts = {"strokes": 7, "rejected: by rank": 2}
        job.result.metrics = {"1-shot/model/mIoU": 0.25, "shift (all)": 1, "sentence": "none", "list": [1, 2]}
        job.result.outputs = {"painting": f"{config.output}/painting.png"}
    return job.result


def logged(config: PaintConfig, run_id: str | None) -> Any:
    return tracking_client(str(config.tracking.uri)).get_run(run_id)


def test_a_finished_job_leaves_a_summary_and_a_run(config: PaintConfig) -> None:
    result = paint(config, tags={"fss.collection": "abc"})
    assert result.worked and result.job == "paint"
    assert result.inputs == {"colour": "red", "key": "steps-3"}
    assert json.loads(Path(config.output, "summary.json").read_text()) == to_dict(result)
    run = logged(config, result.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == run.data.tags["fss.job"] == "paint"
    assert run.data.tags["mlflow.source.name"] == "pipelines.paint"
    assert (run.data.tags["fss.key"], run.data.tags["fss.collection"]) == ("steps-3", "abc")
    artifacts = {entry.path for entry in tracking_client(str(config.tracking.uri)).list_artifacts(result.run_id)}
    assert artifacts == {"summary.json", "packages.txt"}


def test_parameters_are_the_resolved_configuration(config: PaintConfig) -> None:
    run = logged(config, paint(config).run_id)
    assert run.data.params == {name: str(value) for name, value in flatten(to_dict(config)).items()}
    assert (run.data.params["colours.red"], run.data.params["steps"]) == ("0.5", "3")


def test_a_stage_records_below_its_job(config: PaintConfig) -> None:
    with Job("outer", config, key="outer", output_dir=f"{config.output}/outer", inputs={}) as outer:
        stage = paint(replace(config, steps=5), parent=outer.run)
    run = logged(config, stage.run_id)
    assert run.data.tags["mlflow.parentRunId"] == outer.run.run_id
    assert run.data.params["steps"] == "5" and logged(config, outer.run.run_id).data.params["steps"] == "3"


def test_a_run_that_was_given_is_not_ended(config: PaintConfig) -> None:
    given = Run.start("trial", uri=config.tracking.uri, experiment="paint")
    assert paint(config, run=given).run_id == given.run_id
    run = logged(config, given.run_id)
    assert (run.info.status, run.data.tags["fss.key"], run.data.metrics["total/strokes"]) == ("RUNNING", "steps-3", 7)
    given.end()


def test_names_of_metrics_are_sanitised_and_texts_left_out(config: PaintConfig) -> None:
    run = logged(config, paint(config).run_id)
    counts = {"total/strokes": 7, "total/rejected_by_rank": 2}
    assert run.data.metrics == counts | {"eval/1-shot/mIoU": 0.25, "result/shift_all": 1}
    assert logged_metrics({"a: b": 1, "c": "text"}, prefix="kept/") == {"kept/a_b": 1.0}
    assert list(logged_metrics({"files outside images/": 1, "/a//../b.c/.": 2})) == ["files_outside_images", "a/b.c"]


def test_a_dry_run_shows_the_resolved_configuration_and_touches_nothing(
    config: PaintConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(config, dry_run=True, overwrite=True)

    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    before = files()
    result = paint(config)
    assert result.job == "paint (dry run)"
    assert len(result.inputs) == len(flatten(to_dict(config))), "every setting, by its flag"
    assert (result.inputs["--steps"], result.inputs["--red"], result.inputs["--tracking.experiment"]) == (
        3,
        0.5,
        "paint",
    )
    assert result.metrics == {"strokes": 7}
    assert result.run_id is None
    assert files() == before
    result.show()
    shown = capsys.readouterr().out
    assert re.search(r"settings +--output", shown) and re.search(r"plan +strokes +│ 7 ", shown)


def test_a_finished_job_says_which_settings_its_outputs_keep(
    config: PaintConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    for pictures, told in ((4, ""), (8, "has finished with pictures 4, not 8; give --overwrite"), (4, "")):
        paint(config, settings={"pictures": pictures})
        err = capsys.readouterr().err
        assert told in err and ("pictures" in err) == bool(told)


def test_a_job_that_finished_before_does_nothing(config: PaintConfig, tmp_path: Path) -> None:
    first = paint(config, contents={"contents": "a"})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = paint(config, error=RuntimeError("the block must not run"), contents={"contents": "a"})
    assert not again.worked
    assert (again.counts, again.metrics, again.run_id) == (first.counts, first.metrics, first.run_id)
    with pytest.raises(ValueError, match="a painting that began with other data"):
        paint(config, contents={"contents": "b"})
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_job_that_claims_no_folder_runs_again_if_its_files_have_changed(
    config: PaintConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    first = paint(config, claim_as=None, contents={"labels": "a"})
    assert not paint(config, claim_as=None, contents={"labels": "a"}).worked
    assert "other data" not in capsys.readouterr().err
    again = paint(config, claim_as=None, contents={"labels": "b"})
    assert again.worked and again.run_id != first.run_id
    assert f"a result of paint in {config.output} of other data: files have changed" in capsys.readouterr().err
    assert not paint(config, claim_as=None, contents={"labels": "b"}).worked


def test_a_finished_job_whose_network_is_gone_is_told(config: PaintConfig) -> None:
    model = Path(config.output, "model")
    model.mkdir(parents=True)
    (model / "model.json").touch()
    finished = replace(paint(config), outputs={"model": str(model)})
    finished.write(config.output)
    assert not paint(config).worked
    (model / "model.json").unlink()
    model.rmdir()
    with pytest.raises(ValueError, match=rf"a painting has finished, but its model is gone from {model}. Copy it back"):
        paint(config)
    Path(config.output, "summary.json").unlink()
    assert paint(config).worked


def test_a_finished_job_whose_outputs_are_missing_goes_on(config: PaintConfig) -> None:
    first = paint(config)
    again = paint(config, complete=False)
    assert again.worked and again.run_id != first.run_id


def test_an_output_folder_that_cannot_be_written_is_refused(config: PaintConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=f"cannot write to {output}: {tmp_path}/file is a file; give another"):
            paint(replace(config, output=str(output)))


def test_a_twin_of_a_running_job_is_told(config: PaintConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    away = replace(Owner.of_this_process(), host="elsewhere", started="another-system/1:5")
    renewed = replace(away, renewed=away.renewed + 1)
    lock = Path(config.output, LOCK)
    lock.parent.mkdir()
    lock.write_bytes(away.encode())
    with monkeypatch.context() as patch:
        patch.setattr("fss.core.lease.time.sleep", lambda _: lock.write_bytes(renewed.encode()))
        with pytest.raises(ValueError, match=r"another job writes a painting: process \d+ on elsewhere, since"):
            paint(replace(config, overwrite=True))
    assert [file.name for file in lock.parent.iterdir()] == [LOCK], "nothing was written or removed"
    lock.unlink()
    with pytest.raises(RuntimeError):
        paint(config, RuntimeError("stopped"))
    assert not lock.exists()


def test_other_settings_are_refused_by_name(config: PaintConfig) -> None:
    paint(config)
    with pytest.raises(ValueError, match=r"there is a painting with other settings \(.*steps was 3, is 4\)") as refused:
        paint(replace(config, steps=4))
    for words in ("continue it", "--overwrite", "another --name"):
        assert words in str(refused.value)
    assert json.loads(Path(config.output, "summary.json").read_text())["inputs"]["key"] == "steps-3"


def test_other_data_are_refused_and_missing_records_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    claim(old, "k", {}, what="a painting")
    claim(old, "k", {}, what="a painting", contents="a")
    assert "a painting began with a version that recorded no contents of its data" in capsys.readouterr().err
    claim(new, "k", {}, what="a painting", contents="a")
    claim(new, "k", {}, what="a painting", contents="a")
    with pytest.raises(
        ValueError, match=r"a painting that began with other data: .* \(contents a, now b\).*--overwrite"
    ):
        claim(new, "k", {}, what="a painting", contents="b")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", ["", "{}", '{"key": "k", "settings": []}', '{"key": null, "settings": {}}'])
def test_a_damaged_owner_of_a_folder_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(ValueError, match=r"job\.json is .*(valid JSON|no valid (key|settings)).*delete it if they are"):
        claim(str(tmp_path), "k", {}, what="a painting")


def test_overwrite_removes_what_is_there_and_starts_a_fresh_run(config: PaintConfig, tmp_path: Path) -> None:
    first = paint(config)
    Path(config.output, "old.png").touch()
    (tmp_path / "more").mkdir()
    result = paint(replace(config, steps=4, overwrite=True), remove_too=[str(tmp_path / "more")])
    assert result.worked and result.run_id != first.run_id
    assert sorted(path.name for path in Path(config.output).iterdir()) == ["job.json", "summary.json"]
    assert not (tmp_path / "more").exists()
    assert json.loads(Path(config.output, "job.json").read_text())["settings"]["steps"] == 4


@pytest.mark.parametrize(
    ("files", "claimed", "overwrite", "reason"),
    [
        ({"collection.json": "{}"}, False, False, "is a collection, whose files paint would replace"),
        ({"collection.json": "{}"}, True, True, "is a collection"),
        ({"segmenter.json": "{}"}, False, True, "is a model"),
        ({"job.json": "{}", "summary.json": "{}"}, False, False, "is the output of another job"),
        ({"summary.json": '{"job": "draw"}'}, False, False, "is the output of the job draw"),
        ({"thesis.txt": ""}, False, True, r"--overwrite would delete .* files \(thesis.txt\) and none that says"),
        ({"thesis.txt": "", "summary.json": "{}"}, True, True, "--overwrite would delete"),
    ],
)
def test_files_of_others_are_neither_replaced_nor_deleted(
    config: PaintConfig, files: dict[str, str], claimed: bool, overwrite: bool, reason: str
) -> None:
    Path(config.output).mkdir()
    for name, content in files.items():
        Path(config.output, name).write_text(content)
    options = {"claim_as": "a painting" if claimed else None, "remove_too": [config.output]}
    with pytest.raises(ValueError, match=reason):
        paint(replace(config, overwrite=overwrite), **options)
    assert {path.name: path.read_text() for path in Path(config.output).iterdir()} == files


def test_a_job_that_claims_no_folder_empties_its_output_before_its_run_writes_there(
    config: PaintConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(config, claim_as=None)
    old = Path(config.output, "old.png")
    old.touch()
    seen: list[bool] = []

    def open_run(*args: Any, **kwargs: Any) -> Any:
        seen.append(old.exists())
        return mlflow_run.job_run(*args, **kwargs)

    monkeypatch.setattr("pipelines.runtime.job.job_run", open_run)
    result = paint(replace(config, overwrite=True), claim_as=None, remove_too=[config.output])
    assert result.worked and seen == [False]
    assert logged(config, result.run_id).data.metrics["total/strokes"] == 7


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [(RuntimeError("disk full"), "FAILED", "RuntimeError: disk full"), (KeyboardInterrupt(), "KILLED", None)],
)
def test_a_job_that_stops_has_no_summary_and_goes_on_with_its_run(
    config: PaintConfig, error: BaseException, status: str, reason: str | None
) -> None:
    with pytest.raises(type(error)):
        paint(config, error=error)
    assert not Path(config.output, "summary.json").exists()
    client = tracking_client(str(config.tracking.uri))
    experiment = client.get_experiment_by_name("paint").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.status == status
    assert run.data.tags.get("fss.error") == reason
    assert run.data.metrics == {}
    assert paint(config).run_id == run.info.run_id
    resumed = logged(config, run.info.run_id)
    assert (resumed.info.status, resumed.data.tags.get("fss.error")) == ("FINISHED", None)


def test_a_job_killed_between_its_summary_and_the_end_of_its_run_closes_it_when_it_runs_again(
    config: PaintConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_run, "end_on_exit", nullcontext)
        patch.setattr(mlflow_run, "settle", lambda *_, **__: Outcome(uri=""))
        killed = paint(config)
        open_spool(f"{config.output}/tracking", str(config.tracking.uri)).flush(30)
    assert logged(config, killed.run_id).info.status == "RUNNING"
    again = paint(config, error=RuntimeError("the block must not run"))
    assert (again.run_id, again.notes) == (killed.run_id, [])
    assert logged(config, killed.run_id).info.status == "FINISHED"
    assert sorted(path.name for path in Path(config.output).iterdir()) == ["job.json", "summary.json"]


def test_a_stage_killed_before_the_end_of_its_run_is_closed_by_its_job(config: PaintConfig) -> None:
    with Job("outer", config, key="outer", output_dir=f"{config.output}/outer", inputs={}) as outer:
        stage = paint(replace(config, steps=6), parent=outer.run)
        replace(outer.run, run_id=str(stage.run_id)).mark_running()
        assert not paint(replace(config, steps=6), parent=outer.run).worked
    assert logged(config, stage.run_id).info.status == "FINISHED"


def test_a_job_without_an_output_folder_always_runs_and_writes_none(config: PaintConfig, tmp_path: Path) -> None:
    ids = set()
    for _ in range(2):
        with Job("accept", config, key="k", output_dir=None, inputs={}) as job:
            assert not job.done
            ids.add(job.run.run_id)
    assert len(ids) == 2
    assert not list(tmp_path.rglob("out"))


@pytest.mark.parametrize(
    ("output", "tracking", "message"),
    [
        (
            "out",
            "sqlite:////elsewhere/mlflow.db",
            "an output folder must outlast the job, but .*give --output and --collection as s3://",
        ),
        (
            "/elsewhere/out",
            None,
            r"the MLflow store must outlast the job.*--tracking\.uri \(or MLFLOW_TRACKING_URI\) as a server",
        ),
    ],
)
def test_a_submitted_job_does_not_write_into_its_temporary_copy(
    output: str, tracking: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "session_1/runtime_resources/working_dir_files/_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    elsewhere = tmp_path / "elsewhere"
    config = PaintConfig(
        output=output.replace("/elsewhere", str(elsewhere)),
        tracking=TrackingConfig(uri=tracking and tracking.replace("/elsewhere", str(elsewhere))),
    )
    with pytest.raises(ValueError, match=message):
        paint(config)
    assert not any(copy.iterdir())
