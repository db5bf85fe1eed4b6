"""Which settings of a sweep mattered: the share of the objective's variance that each explains (fANOVA).

Hutter, Hoos, Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014, by Optuna's
forest of trees. Trials that were stopped early count too: all are compared at the last step that every one reached.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.tuning.space import Dimension
from pipelines.tuning.trial_runs import TrialRecord

LEAST = 6
"""Trials below which a forest says nothing."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Shares of the variance, largest first."""

    step: int
    """Training step at which the trials were compared."""
    trials: int
    """How many there were."""
    shares: dict[str, float]
    """By dimension; they sum to 1."""


def importance(space: Mapping[str, Dimension], trials: Sequence[TrialRecord]) -> Importance | None:
    """Return how much each searched dimension mattered, None where the trials are too few or all alike."""
    import optuna

    judged = [trial for trial in trials if trial.curve]
    searched = [name for name, dimension in space.items() if len(dimension.choices) != 1]
    together = set.intersection(*(set(trial.curve) for trial in judged)) if judged else set()
    if len(judged) < LEAST or not together:
        return None
    step = max(together)
    values = [trial.curve[step] for trial in judged]
    if max(values) == min(values):
        return None
    distributions = {name: _distribution(space[name]) for name in searched}
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces every study
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for trial, value in zip(judged, values, strict=True):
        drawn = {name: trial.values[name] for name in searched}
        study.add_trial(optuna.trial.create_trial(params=drawn, distributions=distributions, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental, says Optuna of its own evaluators
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return Importance(step=step, trials=len(judged), shares={name: float(share) for name, share in found.items()})


def _distribution(dimension: Dimension) -> "optuna.distributions.BaseDistribution":  # type: ignore[name-defined]  # noqa: F821
    import optuna

    if dimension.choices:
        return optuna.distributions.CategoricalDistribution(dimension.choices)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)
