"""A sweep's report, gate and resume around the search itself, which is stood in for: no Ray."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fss.models import create_segmenter, save_checkpoint
from fss.tracking.run import Run, tracking_client
from pipelines import evaluate, tune
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.job import Job
from pipelines.runtime.result import JobResult
from pipelines.tuning import search
from pipelines.tuning.config import GateConfig, TuneJobConfig
from pipelines.tuning.registration_gate import METRIC
from pipelines.tuning.trial_runs import OBJECTIVE, close_trial, open_trial
from tests.helpers.stores import fresh_store

Paint = Callable[..., str]
SCORES = (0.31, 0.36, 0.33, 0.29, 0.4, 0.35, 0.2)
BEST = 4  # of those that were trained to the end
PRUNED, FAILED = 6, 7


@pytest.fixture(scope="module")
def config(paint_masked: Paint, tmp_path_factory: pytest.TempPathFactory) -> TuneJobConfig:
    home = tmp_path_factory.mktemp("report")
    collection = paint_masked(home / "collection", count=64, part_size=32)
    return TuneJobConfig(
        collection=collection,
        output=str(home / "sweeps"),
        name="sweep",
        space=(),
        dimensions=("split.tilt=0..0.5", "similarity=true|false"),
        trials=8,
        gate=GateConfig(evaluation=collection, episodes=4, beats=("all foreground",), model="reported"),
        tracking=TrackingConfig(uri=fresh_store(home)),
    )


def leave_trials(config: TuneJobConfig, record: Run, output_dir: str) -> None:
    """Leave what a search of eight trials leaves: runs, and the best trial's model."""
    for number in range(8):
        values = {"split.tilt": 0.06 * number, "similarity": bool(number % 2)}
        run = open_trial(record, f"t{number}", values)
        if number == FAILED:
            close_trial(run, "failed", "ValueError: no pictures")
            continue
        run.log_metrics({OBJECTIVE: SCORES[number]}, step=100)
        if number != PRUNED:
            run.log_metrics({OBJECTIVE: SCORES[number] + 0.1}, step=1000)
        close_trial(run, "pruned" if number == PRUNED else "completed")
    network = create_segmenter(backbone="timm:test_resnet.r160_in1k", width=32)
    save_checkpoint(network, Path(output_dir) / "trials" / f"t{BEST}" / "model")


def evaluated(config: EvaluateJobConfig, *, parent: Run | None = None) -> JobResult:
    rows = [{"method": "model"}, {"method": "all foreground", "ahead": 0.1, "ahead_low": 0.05, "ahead_high": 0.2}]
    Path(config.output).mkdir(parents=True, exist_ok=True)
    (Path(config.output) / "table.json").write_text(json.dumps(rows))
    return JobResult(job="evaluate", metrics={METRIC: 0.4}, inputs={"1-shot plan": "p" * 16})


def test_what_a_search_leaves_is_reported_and_the_best_model_registered(
    config: TuneJobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, bool]] = []

    def searched(config: TuneJobConfig, record: Run, output_dir: str, *, retry_failed: bool) -> None:
        calls.append((config.trials, retry_failed))
        if len(calls) == 1:
            leave_trials(config, record, output_dir)
            return
        run = open_trial(record, "t8", {"split.tilt": 0.5, "similarity": True})
        run.log_metrics({OBJECTIVE: 0.01}, step=1000)
        close_trial(run, "completed")

    monkeypatch.setattr(Job, "start_ray", lambda job: None)
    monkeypatch.setattr(search, "search", searched)
    monkeypatch.setattr(evaluate, "run", evaluated)
    summary = tune.run(config)
    assert summary.counts == {"trials": 8, "completed": 6, "failed": 1, "pruned": 1}
    assert summary.metrics["held_out_iou"] == pytest.approx(0.5)
    assert summary.inputs["best trial"] == f"t{BEST}"
    assert "t7 failed: ValueError: no pictures" in summary.report
    assert summary.outputs["registered"] == "models:/reported@champion"
    home = Path(config.output) / "sweep"
    settings = json.loads((home / "best.json").read_text())
    assert settings["train"]["split"]["tilt"] == pytest.approx(0.24)
    assert settings["train"]["segmenter"]["similarity"] is False

    client = tracking_client(str(config.tracking.uri))
    run = client.get_run(str(summary.run_id))
    assert (run.info.status, run.data.tags["fss.gate"], run.data.tags["fss.best_trial"]) == ("FINISHED", "passed", "t4")
    logged = {file.path for file in client.list_artifacts(run.info.run_id)}
    plots = ["history.png", "parallel-coordinates.png", "importance.png"]
    assert {"best.json", "trials.json", "gate.json", *plots} <= logged
    positions = [run.data.tags["mlflow.note.content"].index(name) for name in [*plots, "| trial "]]
    assert positions == sorted(positions), "the plots stand before the table"
    assert sum(value for name, value in run.data.metrics.items() if name.startswith("importance/")) == pytest.approx(1)
    version = client.get_model_version_by_alias("reported", "champion")
    assert version.tags["fss.sweep"] == summary.run_id
    statuses = {child.info.run_name: child.info.status for child in client.search_runs([run.info.experiment_id])}
    assert "RUNNING" not in statuses.values()

    assert not tune.run(config).worked
    assert not tune.run(replace(config, trials=2)).worked
    assert calls == [(8, True)]
    more = tune.run(replace(config, trials=9))
    assert calls[1:] == [(9, False)], "a finished sweep goes on with its missing trials, and repeats none"
    assert (more.run_id, more.counts["trials"], more.counts["completed"]) == (summary.run_id, 9, 7)
    assert more.outputs["registered"] == "models:/reported@champion"
    assert client.get_model_version_by_alias("reported", "champion").version == version.version
    assert client.get_run(str(more.run_id)).info.status == "FINISHED"
    with pytest.raises(ValueError, match=r"search_seed was 0, is 9.*--overwrite"):
        tune.run(replace(config, search_seed=9))


def test_a_gate_without_its_classes_is_refused_before_the_search(config: TuneJobConfig) -> None:
    gate = replace(config.gate, classes="nothing")
    with pytest.raises(ValueError, match="no class split 'nothing'"):
        tune.run(replace(config, name="other", gate=gate))
