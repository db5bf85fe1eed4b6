"""A sweep's runs in a real MLflow store, told by the callback as Ray Tune would tell it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from fss.tracking.run import Run, tracking_client
from pipelines.tuning.callbacks import BEST, TrialRuns, why
from pipelines.tuning.config import TuneJobConfig
from pipelines.tuning.journal import JOURNAL, TRIAL, VALUES, Journal, TrialRecord
from pipelines.tuning.search import finished_trials
from pipelines.tuning.trial_runs import OBJECTIVE, close_leftovers, find_trial, open_trial, read_trials
from tests.helpers.stores import fresh_store

SCORE = "held_out_iou"


@dataclass
class Trial:
    """What the callback asks of Tune's trials."""

    trial_id: str
    values: dict[str, Any] = field(default_factory=dict)
    last_result: dict[str, Any] = field(default_factory=dict)
    finished: bool = False
    error: Exception | None = None

    @property
    def config(self) -> dict[str, Any]:
        return {TRIAL: self.trial_id, VALUES: self.values}

    def is_finished(self) -> bool:
        return self.finished

    def get_pickled_error(self) -> Exception | None:
        return self.error

    def get_error(self) -> Exception | None:
        return None


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fresh_store(tmp_path_factory.mktemp("sweeps"))


@pytest.fixture
def sweep(store: str) -> Run:
    return Run.start("tune", uri=store)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / JOURNAL), [TrialRecord(trial_id=name, values={}) for name in "abc"])


def callback(sweep: Run, journal: Journal) -> TrialRuns:
    return TrialRuns(sweep, journal, objective=SCORE, mode="max", steps=30, trials=4)


def say(told: TrialRuns, trial: Trial, **result: Any) -> None:
    trial.last_result = result
    told.journal.report(trial.trial_id, result["step"], result[SCORE])
    told.on_trial_result(0, [trial], trial, result)


def end(told: TrialRuns, trial: Trial) -> None:
    told.journal.end(trial.trial_id, "failed" if trial.error else "completed")
    (told.on_trial_error if trial.error else told.on_trial_complete)(0, [trial], trial)


def status(run: Run) -> tuple[str, str | None]:
    found = tracking_client(run.uri).get_run(run.run_id)
    return found.info.status, found.data.tags.get("fss.trial")


def test_a_trial_has_one_run_whoever_opens_it(sweep: Run, store: str) -> None:
    values = {"split.tilt": 0.25, "split.direction": "either", "split.ignore_support": True}
    first, again = open_trial(sweep, "a", values), open_trial(sweep, "a", values)
    assert first.run_id == again.run_id
    assert open_trial(Run.start("tune", uri=store), "a", {}).run_id != first.run_id, "another sweep's trial"
    (record,) = read_trials(sweep)
    assert (record.trial_id, record.state, record.values, record.objective) == ("a", "running", values, None)


def test_curves_have_no_step_twice_and_every_trial_ends(sweep: Run, journal: Journal) -> None:
    told = callback(sweep, journal)
    whole, pruned, broken = (Trial(name, {"split.tilt": 0.1}) for name in "abc")
    for trial in (whole, pruned, broken):
        open_trial(sweep, trial.trial_id, trial.values)
    say(told, whole, step=10, held_out_iou=0.2)
    say(told, whole, step=20, held_out_iou=0.3)
    told = callback(sweep, journal)  # killed and restored: the trial says its second step again
    say(told, whole, step=20, held_out_iou=0.9)
    say(told, whole, step=30, held_out_iou=0.4)
    say(told, pruned, step=10, held_out_iou=0.1)
    broken.error = ValueError("too few pictures\nand more")
    for trial in (whole, pruned, broken):
        end(told, trial)

    found = {record.trial_id: record for record in read_trials(sweep)}
    assert found["a"].curve == {10: 0.2, 20: 0.3, 30: 0.4}
    assert {name: record.state for name, record in found.items()} == {"a": "completed", "b": "pruned", "c": "failed"}
    assert found["c"].error == "ValueError: too few pictures"
    runs = [find_trial(sweep, name) for name in "abc"]
    assert [status(run) for run in runs if run] == [
        ("FINISHED", "completed"),
        ("KILLED", "pruned"),
        ("FAILED", "failed"),
    ]
    assert sweep.last_step(BEST) == 3


def test_the_sweeps_curve_counts_trials_that_ended(sweep: Run, journal: Journal) -> None:
    told, trials = callback(sweep, journal), [Trial("a"), Trial("b")]
    for trial, score in zip(trials, (0.4, 0.2), strict=True):
        say(told, trial, step=30, held_out_iou=score)
        end(told, trial)
    points = tracking_client(sweep.uri).get_metric_history(sweep.run_id, BEST)
    assert [(point.step, point.value) for point in points] == [(1, 0.4), (2, 0.4)]


def test_no_child_is_left_running(sweep: Run, journal: Journal) -> None:
    told = callback(sweep, journal)
    stopped, dead = Trial("a"), Trial("b")
    runs = [open_trial(sweep, trial.trial_id, {}) for trial in (stopped, dead)]
    told.on_experiment_end([stopped])
    assert [status(run)[0] for run in runs] == ["KILLED", "RUNNING"]
    assert close_leftovers(sweep) == 1
    assert [status(run) for run in runs] == [("KILLED", "stopped")] * 2
    assert close_leftovers(sweep) == 0


def test_the_reason_is_what_the_training_said() -> None:
    class Wrapped(Exception):  # noqa: N818
        cause = ValueError("lower the lanes")

    class TuneError(Exception):
        """As Tune reads it from a trial's folder."""

    assert why(Wrapped("ray::trial ...")) == "ValueError: lower the lanes"
    assert why(TuneError("Traceback:\n  File x\nRuntimeError: out of memory\n")) == "RuntimeError: out of memory"
    assert why(None) == "its process died"


def test_objectives_survive_the_store(sweep: Run, tmp_path: Path) -> None:
    run = open_trial(sweep, "a", {"training.learning_rate": 1.5e-4, "segmenter.masking": "none"})
    run.log_metrics({OBJECTIVE: 0.5}, step=7)
    (record,) = read_trials(sweep)
    assert record.objective == 0.5
    assert record.values == {"training.learning_rate": 1.5e-4, "segmenter.masking": "none"}


def test_values_that_a_private_run_hides_come_from_the_journal(store: str, tmp_path: Path) -> None:
    space = ("split.tilt=0..0.5", "split.direction=vertical|either")
    config = TuneJobConfig(collection="c", output="o", space=(), dimensions=space)
    sweep, values = Run.start("tune", uri=store, private=True), {"split.tilt": 0.25, "split.direction": "either"}
    open_trial(sweep, "a", values)
    (hidden,) = finished_trials(config, sweep, str(tmp_path))
    assert hidden.values == {"split.tilt": 0.25, "split.direction": "(private)"}
    Journal(str(tmp_path / JOURNAL)).add("a", values)
    (trial,) = finished_trials(config, sweep, str(tmp_path))
    assert trial.values == values
    open_trial(sweep, "b", values)  # of a journal that was deleted
    trials = {each.trial_id: each for each in finished_trials(config, sweep, str(tmp_path))}
    assert trials["a"].values == values and trials["b"] == replace(hidden, trial_id="b", run_id=trials["b"].run_id)


def test_a_failed_trial_has_failed_whatever_its_run_says(sweep: Run, tmp_path: Path) -> None:
    config = TuneJobConfig(collection="c", output="o", space=(), dimensions=("split.tilt=0..0.5",))
    trials = Journal(str(tmp_path / JOURNAL))
    for name in ("a", "b"):
        trials.add(name, {"split.tilt": 0.1})
        open_trial(sweep, name, {})  # whose last entries come late
    trials.end("a", "failed")
    assert [trial.state for trial in finished_trials(config, sweep, str(tmp_path))] == ["failed", "running"]
