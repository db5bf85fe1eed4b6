"""A sweep on real Ray Tune: trials that end and one that fails, a killed driver, and what is left of both."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fss.core.config import save, to_dict
from fss.models import SegmenterConfig, load_checkpoint
from fss.tracking.run import PARENT_TAG, Run, tracking_client
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from pipelines import lineage, tune
from pipelines.runtime.command_line import read_config
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.result import JobResult
from pipelines.training.config import TrainJobConfig, TrainSettings
from pipelines.tuning.config import GateConfig, TuneJobConfig
from pipelines.tuning.trial_runs import TrialResult, read_trials

Paint = Callable[..., str]


@pytest.fixture(scope="module")
def config(paint_masked: Paint, tmp_path_factory: pytest.TempPathFactory, tracking: TrackingConfig) -> TuneJobConfig:
    home = tmp_path_factory.mktemp("tune")
    train = TrainSettings(
        segmenter=SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=80, frozen=True, width=32),
        stream=StreamConfig(batch_size=4, lanes=2, held_out=0.2),
        optimizer=OptimizerConfig(steps=4, learning_rate=1e-3, ema=0.0),
        checkpoint_every=2,
        log_every=1,
        keep_weights="raw",
    )
    return TuneJobConfig(
        collection=paint_masked(home / "collection", count=24),
        output=str(home / "sweeps"),
        train=train,
        space=(),
        # A batch of 4 has no second row for a distractor in 4 lanes: such a trial fails and says so.
        dimensions=("lanes=2|4", "split.distractor=0.5", "split.tilt=0..0.5"),
        searcher="random",
        search_seed=4,
        trials=2,
        tracking=tracking,
    )


def trials_of(summary: JobResult, tracking: TrackingConfig) -> list[TrialResult]:
    run = Run.resume(str(summary.run_id), uri=tracking.uri)
    assert run is not None
    run.end()
    return read_trials(run)


@pytest.fixture(scope="module")
def finished(ray_local: None, config: TuneJobConfig) -> JobResult:
    return tune.run(replace(config, name="small"))


@pytest.mark.slow
def test_every_trial_ends_and_the_failed_one_says_why(finished: JobResult, tracking: TrackingConfig) -> None:
    # They run side by side, and either may start first.
    whole, failed = sorted(trials_of(finished, tracking), key=lambda trial: str(trial.values["lanes"]))
    assert (whole.state, whole.values["lanes"]) == ("completed", 2)
    assert set(whole.curve) == {2, 4}
    assert (failed.state, failed.values["lanes"]) == ("failed", 4)
    assert "a lane needs two rows" in str(failed.error)
    assert "a lane needs two rows" in finished.report
    assert finished.counts == {"trials": 2, "completed": 1, "failed": 1}
    client = tracking_client(str(tracking.uri))
    children = client.search_runs(
        [client.get_run(str(finished.run_id)).info.experiment_id], f"tags.`{PARENT_TAG}` = '{finished.run_id}'"
    )
    assert sorted(child.info.status for child in children) == ["FAILED", "FINISHED"]


@pytest.mark.slow
def test_the_best_settings_train_and_the_best_model_is_there(finished: JobResult, config: TuneJobConfig) -> None:
    words = ["--config", finished.outputs["settings"], "--collection", config.collection, "--output", "elsewhere"]
    again: TrainJobConfig = read_config(TrainJobConfig, words, job="train")
    assert (again.split.distractor, again.stream.lanes) == (0.5, 2)
    assert again.optimizer == config.train.optimizer
    trained, asked = load_checkpoint(finished.outputs["model"]).config, config.train.segmenter
    assert (trained.backbone, trained.image_size, trained.width) == (asked.backbone, asked.image_size, asked.width)
    home = Path(finished.outputs["settings"]).parent
    assert {"best.json", "trials.json", "parallel-coordinates.png", "summary.json"} <= {p.name for p in home.iterdir()}


@pytest.mark.slow
def test_the_best_model_leads_back_to_its_photographs(
    finished: JobResult, config: TuneJobConfig, tracking: TrackingConfig
) -> None:
    found = lineage.run(lineage.LineageConfig(model=finished.outputs["model"], tracking=tracking))
    assert found.counts == {"photographs": 24}
    assert f"part of run: {finished.run_id}" in found.report


@pytest.mark.slow
def test_a_finished_sweep_does_nothing_and_another_under_its_name_is_refused(
    finished: JobResult, config: TuneJobConfig
) -> None:
    again = tune.run(replace(config, name="small"))
    assert not again.worked
    assert again.metrics == finished.metrics
    fewer = tune.run(replace(config, name="small", trials=1))
    assert not fewer.worked
    assert fewer.counts["trials"] == 2
    with pytest.raises(ValueError, match=r"search_seed was 4, is 3.*--overwrite"):
        tune.run(replace(config, name="small", search_seed=3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": ("cuts",)}, "no search space 'cuts'"),
        ({"grace": 4}, "cannot be stopped early if its first 4 steps are exempt"),
        ({"space": ("masks",), "acceptance": None}, "give the acceptance that selects them"),
        ({"trials": 0}, "trials"),
        ({"search_seed": -1}, "search_seed must be greater than or equal to 0, got -1"),
        ({"dimensions": ("backbone=resnet18|foo",)}, "unknown backbone 'foo'"),
        ({"dimensions": ("width=40|64",)}, "width"),
        ({"gate": GateConfig(evaluation="/nowhere")}, "/nowhere"),
        ({"train": TrainSettings(stream=StreamConfig(training_size=64))}, "give a larger --training-size"),
    ],
)
def test_mistakes_are_refused_before_any_work(config: TuneJobConfig, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tune.run(replace(config, **change))
    assert not Path(config.output).exists() or not list(Path(config.output).glob("tune-*"))


def test_an_earlier_sweep_without_a_gate_keeps_its_key(config: TuneJobConfig) -> None:
    def key(**gate: Any) -> str:
        return tune._key(replace(config, gate=GateConfig(**gate)), {})

    assert key() == key(beats=tune.EARLIER_BEATS)
    assert key(evaluation="labelled") != key(evaluation="labelled", beats=tune.EARLIER_BEATS)


def test_class_episodes_cannot_be_searched(config: TuneJobConfig) -> None:
    with pytest.raises(ValueError, match="never labels"):
        replace(config, train=replace(config.train, episodes="classes"))


def test_a_dry_run_shows_the_resolved_training(config: TuneJobConfig) -> None:
    result = tune.run(replace(config, dry_run=True, seed=5))
    assert result.metrics["trials"] == 2
    assert (result.inputs["--init-seed"], result.inputs["--episode-seed"]) == (5, 5)


@pytest.mark.slow
def test_killed_and_restored_it_has_every_trial_once(
    config: TuneJobConfig, tracking: TrackingConfig, tmp_path: Path
) -> None:
    """Three trials of three rungs, one at a time; the driver and all of Ray die during the second."""
    longer = replace(
        config,
        name="killed",
        output=str(tmp_path / "sweeps"),
        space=(),
        dimensions=("split.tilt=0..0.5", "learning-rate=1e-6..1e-2 log"),
        searcher="optuna",
        trials=3,
        concurrent=1,
        train=replace(config.train, optimizer=replace(config.train.optimizer, steps=6)),
        tracking=TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"),
    )
    save(longer, tmp_path / "config.json")
    code = (
        "import sys; from fss.core.config import load; from pipelines.tuning.config import TuneJobConfig; "
        "from pipelines.tune import run; run(load(TuneJobConfig, sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "config.json")]
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(command, start_new_session=True, stderr=log)
    trials = Path(longer.output) / "killed" / "trials"
    deadline = time.monotonic() + 900
    while len(list(trials.glob("ray/*/checkpoint_*"))) < 1 or len(list(trials.glob("ray/*"))) < 2:
        assert job.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    before = json.loads((trials.parent / "search.json").read_text())["trials"]
    assert not list(trials.parent.rglob("*.pkl")), "the sweep leaves no pickle to read"
    planted = plant_pickles(trials.parent, tmp_path / "marker")

    summary = tune.run(longer)
    assert not planted.exists(), "a pickle in the folder of the sweep ran"
    found = trials_of(summary, longer.tracking)
    assert len(found) == 3
    values = {trial.trial_id: trial.values for trial in found}
    assert before == [each | {"values": values[each["trial_id"]]} for each in before], "the trials are the same runs"
    assert {trial.state for trial in found} <= {"completed", "pruned"}
    assert all(len(trial.curve) == len(set(trial.curve)) for trial in found)
    assert 0 <= json.loads((trials.parent / "best.json").read_text())["train"]["split"]["tilt"] <= 0.5

    more = tune.run(replace(longer, trials=4))
    assert more.worked
    assert (more.run_id, more.counts["trials"]) == (summary.run_id, 4)
    later = trials_of(more, longer.tracking)
    assert later[:3] == found, "finished trials stay as they are"


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_interrupted_it_stops_in_time_and_the_same_command_ends_with_the_same_result(
    config: TuneJobConfig, tmp_path: Path
) -> None:
    def sweep(folder: str) -> TuneJobConfig:
        return replace(
            config,
            name="sweep",
            output=str(tmp_path / folder),
            dimensions=("split.tilt=0..0.5",),
            concurrent=1,
            tracking=TrackingConfig(uri=f"sqlite:///{tmp_path}/{folder}.db"),
        )

    (tmp_path / "tune.json").write_text(json.dumps({"tune": to_dict(sweep("interrupted"))}))
    command = [sys.executable, "-m", "pipelines.tune", "--config", str(tmp_path / "tune.json")]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log, env=environment)
    home = tmp_path / "interrupted" / "sweep"
    deadline = time.monotonic() + 300
    while not list(home.glob("trials/ray/*/checkpoint_*/progress.json")):
        assert job.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.1)
    os.killpg(job.pid, signal.SIGINT)
    assert job.wait(timeout=30) == 130, "Kubernetes waits no longer"
    assert (tmp_path / "log").read_text().splitlines()[-1].endswith("run it again with the same settings to resume")
    assert not (home / "summary.json").exists()

    subprocess.run(command, check=True, timeout=300, env=environment, capture_output=True)
    undisturbed = tune.run(sweep("undisturbed"))
    assert result_of(home) == result_of(tmp_path / "undisturbed" / "sweep")
    assert undisturbed.counts == {"trials": 2, "completed": 2}


def result_of(sweep: Path) -> tuple[list[Any], bytes]:
    """Return the trials of a sweep in the order of their values, without their ids, and the weights of the best."""
    trials = json.loads((sweep / "trials.json").read_text())["trials"]
    outputs = json.loads((sweep / "summary.json").read_text())["outputs"]
    rows = [[trial["values"], trial["state"], trial["curve"]] for trial in trials]
    return sorted(rows, key=json.dumps), (Path(outputs["model"]) / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_sweep_whose_trials_all_fail_ends_with_the_reason_of_the_first(config: TuneJobConfig) -> None:
    failing = replace(config, name="failing", dimensions=("lanes=4", "split.distractor=0.5", "split.tilt=0..0.5"))
    reason = r"^none of 2 trials .*; \w+ failed: ValueError: .*a lane needs two rows.*\(2 trials failed\)$"
    with pytest.raises(RuntimeError, match=reason):
        tune.run(failing)


class Touch:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def plant_pickles(sweep: Path, marker: Path) -> Path:
    """Write a pickle that makes ``marker`` under every name that Tune and Train have for their state."""
    names = ("experiment_state-2026", "search_gen_state-2026", "searcher-state-2026", "basic-variant-state-2026")
    files = ["tuner.pkl", "trainer.pkl", "error.pkl", *(f"{name}.{end}" for name in names for end in ("json", "pkl"))]
    folders = {path for path in sweep.rglob("*") if path.is_dir()} | {sweep, sweep / "tuner", sweep / "tuner" / "t"}
    for folder in folders:
        folder.mkdir(exist_ok=True, parents=True)
        for file in files:
            (folder / file).write_bytes(pickle.dumps(Touch(marker)))
    pickle.loads(pickle.dumps(Touch(marker)))
    assert marker.exists()
    marker.unlink()
    return marker
