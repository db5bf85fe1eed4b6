"""Which settings of a sweep mattered: the share of the objective's variance that each explains (fANOVA).

Hutter, Hoos, Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014, by Optuna's
forest of trees. Trials that were stopped early count too: all are compared at the last step that every one reached.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.tuning.space import Dimension
from pipelines.tuning.trial_runs import TrialRecord

if TYPE_CHECKING:
    import optuna

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
    study: "optuna.Study"
    """The trials that were compared, with their objectives at the step."""


def importance(space: Mapping[str, Dimension], trials: Sequence[TrialRecord]) -> Importance | None:
    """Return how much each searched dimension mattered, None where the trials are too few or all alike."""
    import optuna

    judged = [trial for trial in trials if trial.curve]
    together = set.intersection(*(set(trial.curve) for trial in judged)) if judged else set()
    if len(judged) < LEAST or not together:
        return None
    step = max(together)
    values = [trial.curve[step] for trial in judged]
    if max(values) == min(values):
        return None
    study = build_study(space, list(zip(judged, values, strict=True)))
    shares = optuna.importance.get_param_importances(study, evaluator=fanova())
    shares = {name: float(share) for name, share in shares.items()}
    return Importance(step=step, trials=len(judged), shares=shares, study=study)


def build_study(
    space: Mapping[str, Dimension], scores: Sequence[tuple[TrialRecord, float]], *, mode: str = "min"
) -> "optuna.Study":
    """Return a study of Optuna with some trials and their objectives; it has the dimensions that were searched."""
    import optuna

    names = [name for name, dimension in space.items() if len(dimension.choices) != 1]
    distributions = {name: _distribution(space[name]) for name in names}
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces every study
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(sampler=sampler, direction="maximize" if mode == "max" else "minimize")
    for trial, value in scores:
        params = {name: trial.values[name] for name in names}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    return study


def fanova() -> "optuna.importance.FanovaImportanceEvaluator":
    """Return the evaluator of importance, whose forest is always the same."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls its own evaluators experimental
        return optuna.importance.FanovaImportanceEvaluator(seed=0)


def _distribution(dimension: Dimension) -> "optuna.distributions.BaseDistribution":
    import optuna

    if dimension.choices:
        return optuna.distributions.CategoricalDistribution(dimension.choices)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)
