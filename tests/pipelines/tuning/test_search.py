"""Tune's part of a sweep, without running it: where it starts, when it stops trials, how many fit."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem
from ray import tune
from ray.tune.experiment import Experiment
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import SearchAlgorithm, Searcher, SearchGenerator
from ray.tune.search.basic_variant import BasicVariantGenerator

from fss.training.few_shot.config import OptimizerConfig
from pipelines.runtime.config import ScaleConfig
from pipelines.runtime.ray_internals import set_trial_count
from pipelines.training.config import TrainSettings
from pipelines.tuning import search
from pipelines.tuning.callbacks import GrowingConcurrency
from pipelines.tuning.config import PRESETS, TuneJobConfig
from pipelines.tuning.search import concurrent_trials, scheduler, searcher, tune_space, worker_threads
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


def test_the_search_starts_at_the_settings() -> None:
    for name in ("optuna", "random"):
        found = searcher(replace(CONFIG, searcher=name), 1)
        (start,) = found._points_to_evaluate  # type: ignore[union-attr]
        assert (start["split.tilt"], start["split.direction"], start["split.ratio"]) == (0.2, "vertical", 0.5)
    fixed = searcher(replace(CONFIG, searcher="random", space=(), dimensions=("split.tilt=0.3..0.5",)), 1)
    assert not fixed._points_to_evaluate, "0.2 is not in the space"  # type: ignore[union-attr]


def test_a_fixed_setting_is_no_dimension_of_the_search() -> None:
    space = tune_space(replace(CONFIG, dimensions=("split.tilt=0.1",)).dimensions_by_name)
    assert space["split.tilt"] == 0.1
    assert set(space["split.direction"].categories) == {"vertical", "horizontal", "either"}
    assert (space["split.ratio"].lower, space["split.ratio"].upper) == (0.2, 0.5)


def test_pruning_goes_by_the_trainings_own_steps() -> None:
    found = scheduler(CONFIG)
    assert isinstance(found, ASHAScheduler)
    assert (found._time_attr, found._max_t) == ("step", 90)
    assert [milestone for milestone, _ in found._brackets[0]._rungs] == [60, 30]
    assert isinstance(scheduler(replace(CONFIG, prune=False)), FIFOScheduler)
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


def test_more_trials_run_as_machines_join(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, fitting = searcher(replace(CONFIG, searcher="random"), 1), [1]
    callback = GrowingConcurrency(limiter, lambda: fitting[0])
    for fits, moment, limit in ((1, 100.0, 2), (4, 101.0, 2), (4, 106.0, 5), (2, 112.0, 3)):
        fitting[0] = fits
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        callback.on_step_begin(0, [])
        assert limiter.max_concurrent == limit  # type: ignore[union-attr]


def test_all_trials_are_judged_by_the_same_pictures() -> None:
    base = CONFIG.train_job()
    found = trial_config(base, {"accept-quantile": 0.25, "split.tilt": 0.4}, name="t", output="o/trials")
    assert (found.acceptance, found.held_out_acceptance) == ("quantile-0.250", "default")
    assert (found.split.tilt, found.name, found.output, found.log_model) == (0.4, "t", "o/trials", False)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_searched_as_they_are(name: str) -> None:
    config = replace(PRESETS[name](), collection="c", output="o")
    assert scheduler(config) is not None
    assert config.train_job().collection == "c"
    assert config.train.checkpoint_every * 2 <= config.train.optimizer.steps


def test_random_draws_wait_for_room() -> None:
    drawn = searcher(replace(CONFIG, searcher="random", space=(), dimensions=("split.tilt=0.1..0.5",)), 2)
    assert isinstance(drawn, BasicVariantGenerator)
    drawn.add_configurations(
        Experiment("e", lambda _: None, config={"split.tilt": tune.uniform(0.1, 0.5)}, num_samples=5)
    )
    given = [drawn.next_trial() for _ in range(3)]
    assert [trial is not None for trial in given] == [True, True, False], "Tune itself would start all five at once"


class Sampler(Searcher):
    """A searcher that counts."""

    def suggest(self, trial_id: str) -> dict[str, float]:
        self.count = getattr(self, "count", 0) + 1
        return {"split.tilt": self.count / 10}

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).write_text(str(self.count))

    def restore(self, checkpoint_path: str) -> None:
        self.count = int(Path(checkpoint_path).read_text())

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass


@pytest.mark.parametrize("name", ["random", "searcher"])
def test_more_trials_are_those_of_a_larger_sweep(name: str, tmp_path: Path) -> None:
    def draw(algorithm: SearchAlgorithm, count: int) -> list[float]:
        trials = [algorithm.next_trial() for _ in range(count)]
        return [trial.config["split.tilt"] for trial in trials if trial is not None]

    def make(count: int) -> SearchAlgorithm:
        domain = tune.uniform(0.1, 0.5) if name == "random" else 0.0
        algorithm = BasicVariantGenerator(random_state=1) if name == "random" else SearchGenerator(Sampler())
        algorithm.add_configurations(Experiment("e", lambda _: None, config={"split.tilt": domain}, num_samples=count))
        return algorithm

    expected, small = draw(make(4), 9), make(2)
    assert draw(small, 9) == expected[:2]
    small.save_to_dir(str(tmp_path), "2026")
    for count in (4, 1):
        set_trial_count(LocalFileSystem(), str(tmp_path), count)
        restored = make(2)
        restored.restore_from_dir(str(tmp_path))
        assert draw(restored, 9) == expected[2:count]
        assert restored.is_finished()


def test_a_start_outside_in_one_dimension_is_no_point_for_optuna() -> None:
    space = ("split.tilt=0.3..0.5", "learning-rate=1e-6..1e-2 log")  # the preset's tilt is below 0.3
    found = searcher(replace(CONFIG, searcher="optuna", space=(), dimensions=space), 1)
    assert not found._points_to_evaluate  # type: ignore[union-attr]
    whole = searcher(replace(CONFIG, searcher="optuna", space=(), dimensions=space[1:]), 1)
    assert [list(point) for point in whole._points_to_evaluate or ()] == [["learning-rate"]]
