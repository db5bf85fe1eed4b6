"""Tune's part of a sweep, without running it: where it starts, when it stops trials, how many fit."""

import json
import math
import re
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import ConcurrencyLimiter

from fss.training.few_shot.config import OptimizerConfig
from pipelines.runtime.config import ScaleConfig
from pipelines.training.config import TrainSettings
from pipelines.tuning import search
from pipelines.tuning.callbacks import STEP, GrowingConcurrency
from pipelines.tuning.config import PRESETS, TuneJobConfig
from pipelines.tuning.journal import JOURNAL, TRIAL, Journal, TrialRecord
from pipelines.tuning.search import concurrent_trials, scheduler, worker_threads
from pipelines.tuning.searcher import JournalSearch, draw
from pipelines.tuning.trial import trial_config

CONFIG = TuneJobConfig(
    collection="c",
    output="o",
    train=TrainSettings(optimizer=OptimizerConfig(steps=90), checkpoint_every=30),
    dimensions=("split.tilt=0..0.5",),
)
ONE, TWO, HALF = (
    ScaleConfig(device="cpu"),
    ScaleConfig(workers=2, device="cpu"),
    ScaleConfig(cpus_per_worker=0.49, device="cpu"),
)


def machine(
    monkeypatch: pytest.MonkeyPatch, *, cores: int, cpus: int, gpus: int, gigabytes: float, local: bool
) -> None:
    monkeypatch.setattr(search, "available_cores", lambda: cores)
    monkeypatch.setattr(search, "count_cpus", lambda: cpus)
    monkeypatch.setattr(search, "count_gpus", lambda: gpus)
    monkeypatch.setattr(search, "is_local", lambda: local)
    monkeypatch.setattr(search.ray, "cluster_resources", lambda: {"memory": gigabytes * 1e9})


def journal(folder: Path) -> Journal:
    return Journal(str(folder / JOURNAL))


def finish(search: JournalSearch, name: str, trial: TrialRecord) -> None:
    """Tell a search two results, which follow from the values."""
    for step in (30, 60):
        search.on_trial_result(name, {STEP: step, CONFIG.objective: step / 100 - trial.values["split.tilt"]})
    search.on_trial_complete(name, {STEP: 90, CONFIG.objective: 1 - trial.values["split.tilt"]})


def drive(search: JournalSearch, numbers: Iterable[int]) -> None:
    """Run trials side by side: each is drawn before the one before it ends, and the last does not end."""
    for number in numbers:
        search.suggest(f"t{number}")
        earlier = f"t{number - 1}"
        if earlier in search._ids:
            finish(search, earlier, search._journal[earlier])


@pytest.mark.parametrize("name", ["optuna", "random"])
def test_the_search_starts_at_the_settings_as_far_as_they_are_in_the_space(name: str) -> None:
    start = draw(replace(CONFIG, searcher=name), [])
    assert (start["split.tilt"], start["split.direction"], start["split.ratio"]) == (0.2, "vertical", 0.5)
    space = ("split.tilt=0.3..0.5", "learning-rate=1e-6..1e-2 log")
    outside = draw(replace(CONFIG, searcher=name, space=(), dimensions=space), [])
    assert 0.3 <= outside["split.tilt"] <= 0.5, "0.2 is not in the space"
    assert outside["learning-rate"] == CONFIG.train.optimizer.learning_rate


def test_a_fixed_setting_is_no_dimension_of_the_search() -> None:
    config = replace(CONFIG, dimensions=("split.tilt=0.1",))
    first = TrialRecord(trial_id="a", values=draw(config, []))
    drawn = [draw(replace(config, search_seed=seed), [first]) for seed in range(20)]
    assert {each["split.tilt"] for each in drawn} == {0.1}
    assert {each["split.direction"] for each in drawn} == {"vertical", "horizontal", "either"}
    assert all(0.2 <= each["split.ratio"] <= 0.5 for each in drawn)


def test_pruning_goes_by_the_trainings_own_steps(tmp_path: Path) -> None:
    found = scheduler(CONFIG, journal(tmp_path))
    assert isinstance(found, ASHAScheduler)
    assert (found._time_attr, found._max_t) == ("step", 90)
    assert [milestone for milestone, _ in found._brackets[0]._rungs] == [60, 30]
    assert isinstance(scheduler(replace(CONFIG, prune=False), journal(tmp_path)), FIFOScheduler)
    with pytest.raises(ValueError, match="its first 90 steps are exempt"):
        replace(CONFIG, grace=90)


def test_as_many_trials_run_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    # A local Ray counts at least four logical CPUs, whatever the cores.
    machine(monkeypatch, cores=2, cpus=4, gpus=0, gigabytes=16, local=True)
    assert concurrent_trials(ONE, 2.5) == 2
    assert concurrent_trials(TWO, 2.5) == 1
    assert worker_threads(ONE, 2) == 1
    assert worker_threads(ScaleConfig(threads_per_worker=3), 2) == 3
    machine(monkeypatch, cores=2, cpus=4, gpus=0, gigabytes=4, local=True)
    assert concurrent_trials(ONE, 2.5) == 1
    machine(monkeypatch, cores=8, cpus=64, gpus=0, gigabytes=500, local=False)
    assert concurrent_trials(HALF, 2.5) == 128
    assert worker_threads(HALF, 128) is None
    machine(monkeypatch, cores=8, cpus=64, gpus=4, gigabytes=500, local=False)
    assert concurrent_trials(ScaleConfig(device="cuda"), 2.5) == 4, "a GPU for each"
    machine(monkeypatch, cores=1, cpus=1, gpus=0, gigabytes=1, local=True)
    assert concurrent_trials(TWO, 2.5) == 1, "one at least"


def test_more_trials_run_as_machines_join(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limiter, fitting = ConcurrencyLimiter(JournalSearch(CONFIG, journal(tmp_path), []), 1), [1]
    callback = GrowingConcurrency(limiter, lambda: fitting[0])
    for fits, moment, limit in ((1, 100.0, 2), (4, 101.0, 2), (4, 106.0, 5), (2, 112.0, 3)):
        fitting[0] = fits
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        callback.on_step_begin(0, [])
        assert limiter.max_concurrent == limit


def test_all_trials_are_judged_by_the_same_pictures() -> None:
    base = CONFIG.train_job()
    found = trial_config(base, {"accept-quantile": 0.25, "split.tilt": 0.4}, name="t", output="o/trials")
    assert (found.acceptance, found.held_out_acceptance) == ("quantile-0.250", "default")
    assert (found.split.tilt, found.name, found.output, found.log_model) == (0.4, "t", "o/trials", False)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_searched_as_they_are(name: str, tmp_path: Path) -> None:
    config = replace(PRESETS[name](), collection="c", output="o")
    assert scheduler(config, journal(tmp_path)) is not None
    assert config.train_job().collection == "c"
    assert config.train.checkpoint_every * 2 <= config.train.optimizer.steps


@pytest.mark.parametrize("name", ["optuna", "random"])
def test_a_sweep_that_stopped_goes_on_as_if_it_had_not(name: str, tmp_path: Path) -> None:
    """Twelve trials, two at a time, so that Optuna has left its random start; the second job starts with trial 7."""
    config = replace(CONFIG, searcher=name, search_seed=4)
    whole, stopped = journal(tmp_path / "whole"), journal(tmp_path / "stopped")
    drive(JournalSearch(config, whole, []), range(12))
    drive(JournalSearch(config, stopped, []), range(7))

    again = Journal.read(str(tmp_path / "stopped" / JOURNAL), config.dimensions_by_name)
    assert again is not None
    assert [each.state for each in again.trials] == ["completed"] * 6 + ["running"]
    search = JournalSearch(config, again, ["t6"])
    assert search.suggest("x6")[TRIAL] == "t6", "the interrupted trial keeps its id, and so its training"
    search.suggest("t7")
    finish(search, "x6", again["t6"])
    drive(search, range(8, 12))
    assert again.trials == whole.trials
    rungs = [scheduler(config, each)._brackets[0]._rungs for each in (again, whole)]  # type: ignore[attr-defined]
    assert rungs[0] == rungs[1]
    assert len(rungs[0][0][1]) == 11, "the last trial is running"


def test_a_restarted_trial_is_judged_by_its_results(tmp_path: Path) -> None:
    trials = journal(tmp_path)
    for name, objective in (("a", 0.5), ("b", 0.9)):
        trials.add(name, {})
        trials.report(name, 30, objective)
    trials.end("a", "completed")
    asha = scheduler(CONFIG, trials)
    again = SimpleNamespace(trial_id="x", config={TRIAL: "b"})
    asha.on_trial_add(None, again)  # type: ignore[arg-type]
    assert asha._brackets[0]._rungs[-1][1] == {"a": 0.5, "x": 0.9}  # type: ignore[attr-defined]


def test_draws_wait_for_room(tmp_path: Path) -> None:
    limiter = ConcurrencyLimiter(JournalSearch(CONFIG, journal(tmp_path), []), max_concurrent=2)
    assert [limiter.suggest(name) is not None for name in "abc"] == [True, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trial_id": "../../elsewhere"}, "trial_id"),
        ({"state": "done"}, "state"),
        ({"curve": [[30, "high"]]}, "curve"),
        ({"values": {"split.tilt": 0.9}}, "split.tilt = 0.9"),
        ({"values": {"split.tilt": 0.1, "backbone-weights": "/tmp/weights.pth"}}, "backbone-weights"),
        ({"pickle": "gASV"}, "pickle"),
    ],
)
def test_a_planted_journal_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    config = replace(CONFIG, space=())
    trial = {"trial_id": "a", "values": {"split.tilt": 0.1}, "state": "running", "curve": [[30, 0.5]]}
    file = tmp_path / JOURNAL
    file.write_text(json.dumps({"trials": [trial]}))
    read = Journal.read(str(file), config.dimensions_by_name)
    assert read is not None and read["a"].objective == 0.5
    file.write_text(json.dumps({"trials": [trial | change]}))
    with pytest.raises(ValueError, match=re.escape(message)):
        Journal.read(str(file), config.dimensions_by_name)


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"trials": [{"trial_id": "a"',
        '{"trials": {}}',
        '{"trials": [null]}',
        '{"trials": [[]]}',
        '{"trials": [{"trial_id": "a", "values": {}}, {"trial_id": "a", "values": {}}]}',
    ],
)
def test_a_damaged_journal_is_told(content: str, tmp_path: Path) -> None:
    file = tmp_path / JOURNAL
    file.write_text(content)
    with pytest.raises(ValueError) as refusal:
        Journal.read(str(file), {})
    text = str(refusal.value)
    assert str(file) in text and "Delete it, and the trials are read from MLflow" in text and "\n" not in text


def test_an_objective_that_is_no_number_is_not_written_down(tmp_path: Path) -> None:
    trials = journal(tmp_path)
    trials.add("a", {"split.tilt": 0.1})
    for step, value in ((1, 0.2), (2, math.nan), (1, 0.9)):
        trials.report("a", step, value)
    assert trials["a"].curve == ((1, 0.2),)
