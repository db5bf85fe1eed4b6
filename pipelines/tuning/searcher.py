"""The choice of the next trial, and of the trials to stop, from the trials so far and nothing else.

Every draw has a random generator of its own, keyed by the seed of the search and the number of the trial. A stopped
sweep therefore goes on with the trials that it would have drawn.
"""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from fss.core.rng import keyed_rng
from pipelines.tuning.callbacks import STEP
from pipelines.tuning.config import TuneJobConfig
from pipelines.tuning.journal import TRIAL, VALUES, Journal, TrialRecord
from pipelines.tuning.space import Dimension, Values, present


class JournalSearch(Searcher):
    """Gives Tune the trials that the last job left unfinished, and then new ones; writes all results down."""

    def __init__(self, config: TuneJobConfig, journal: Journal, unfinished: Sequence[str]):
        """Configure the search.

        Args:
            config: the resolved settings of the sweep.
            journal: trials so far.
            unfinished: ids of the trials to run first, with the values that they have.
        """
        super().__init__(metric=config.objective, mode=config.mode)
        self._config, self._journal, self._unfinished = config, journal, list(unfinished)
        self._ids: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Return the id of a trial in the sweep, which may be older than ``trial_id``, and its values."""
        if self._unfinished:
            trial = self._journal[self._unfinished.pop(0)]
        else:
            trial = self._journal.add(trial_id, draw(self._config, self._journal.trials))
        self._ids[trial_id] = trial.trial_id
        return {TRIAL: trial.trial_id, VALUES: dict(trial.values)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Write a result down."""
        if STEP in result and self.metric in result:
            self._journal.report(self._ids[trial_id], result[STEP], result[self.metric])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Write down how a trial ended; a trial without a result was interrupted."""
        if error:
            self._journal.end(self._ids[trial_id], "failed")
        elif result is not None:
            self.on_trial_result(trial_id, result)
            completed = result.get(STEP, 0) >= self._config.train.optimizer.steps
            self._journal.end(self._ids[trial_id], "completed" if completed else "pruned")

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the journal is the state."""


class JournalASHA(ASHAScheduler):
    """ASHA that knows the results of earlier jobs of the sweep."""

    def __init__(self, config: TuneJobConfig, journal: Journal):
        """Configure the rungs, and fill them with the finished trials."""
        super().__init__(
            time_attr=STEP,
            metric=config.objective,
            mode=config.mode,
            grace_period=config.grace or config.train.checkpoint_every,
            max_t=config.train.optimizer.steps,
            reduction_factor=config.reduction,
            # A trial writes its model after its last step, so max_t must not stop it.
            stop_last_trials=False,
        )
        self._journal = journal
        for trial in journal.trials:
            if trial.state != "running":
                finished: Any = SimpleNamespace(trial_id=trial.trial_id, config={TRIAL: trial.trial_id})
                self.on_trial_add(None, finished)
                self.on_trial_remove(None, finished)  # type: ignore[arg-type]  # ASHA needs no controller

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accept Tune's call, although the metric is set."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add a trial, with the results that it has."""
        super().on_trial_add(tune_controller, trial)
        for step, objective in self._journal[trial.config[TRIAL]].curve:
            self.on_trial_result(tune_controller, trial, {STEP: step, self._metric: objective})


def draw(config: TuneJobConfig, trials: Sequence[TrialRecord]) -> Values:
    """Return the values of the next trial; the first is the initial training, as far as it is in the search space.

    Args:
        config: the settings of the sweep.
        trials: the trials so far, in the order of their draws.
    """
    space = config.dimensions_by_name
    free = {name: dimension for name, dimension in space.items() if len(dimension.choices) != 1}
    distributions = {name: distribution(dimension) for name, dimension in free.items()}
    study = optuna.create_study(
        direction="minimize" if config.mode == "min" else "maximize", sampler=_sampler(config, len(trials))
    )
    for trial in trials:
        study.add_trial(_frozen(trial, free, distributions))
    if not trials:
        start = present(config.train, free)
        study.enqueue_trial({name: _encoded(free[name], value) for name, value in start.items()})
    drawn = study.ask(distributions).params
    return {
        name: _decoded(dimension, drawn[name]) if name in drawn else dimension.choices[0]
        for name, dimension in space.items()
    }


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return the distribution of a dimension; choices are drawn by their positions, as Optuna takes no lists."""
    if dimension.choices:
        return CategoricalDistribution(range(len(dimension.choices)))
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _sampler(config: TuneJobConfig, number: int) -> BaseSampler:
    seed = int(keyed_rng(config.search_seed, item=number, purpose="search.draw").integers(2**32))
    return RandomSampler(seed=seed) if config.searcher == "random" else TPESampler(seed=seed)


def _frozen(
    trial: TrialRecord, space: Mapping[str, Dimension], distributions: Mapping[str, BaseDistribution]
) -> FrozenTrial:
    """Return a trial as Optuna knows it: a pruned trial counts with its last objective, one without any as failed."""
    state = TrialState.RUNNING if trial.state == "running" else TrialState.COMPLETE
    value = trial.objective
    if trial.state == "failed" or (state == TrialState.COMPLETE and value is None):
        state, value = TrialState.FAIL, None
    return create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        params={name: _encoded(dimension, trial.values[name]) for name, dimension in space.items()},
        distributions=dict(distributions),
    )


def _encoded(dimension: Dimension, value: Any) -> Any:
    return dimension.choices.index(value) if dimension.choices else value


def _decoded(dimension: Dimension, value: Any) -> Any:
    return dimension.choices[value] if dimension.choices else value
