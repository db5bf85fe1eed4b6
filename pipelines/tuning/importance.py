"""Importance of the settings of a sweep: the share of the objective's variance that each setting explains (fANOVA).

Hutter, Hoos, Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014, with Optuna's
forest. All trials, also those that were stopped early, are compared at the last step that all of them reached.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.tuning.space import Dimension
from pipelines.tuning.trial_runs import TrialResult

if TYPE_CHECKING:
    import optuna

MIN_TRIALS = 6
"""Smallest number of trials; a forest of fewer is meaningless."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Importance of the dimensions of a sweep."""

    step: int
    """Training step at which the trials are compared."""
    trials: int
    """Number of compared trials."""
    shares: dict[str, float]
    """Shares of the variance by dimension, largest first; they sum to 1."""
    study: "optuna.Study"
    """Compared trials, with their objectives at the step."""


def importance(space: Mapping[str, Dimension], trials: Sequence[TrialResult]) -> Importance | None:
    """Return the importance of the searched dimensions; None with too few trials or equal objectives."""
    import optuna

    validated = [trial for trial in trials if trial.curve]
    common_steps = set.intersection(*(set(trial.curve) for trial in validated)) if validated else set()
    if len(validated) < MIN_TRIALS or not common_steps:
        return None
    step = max(common_steps)
    values = [trial.curve[step] for trial in validated]
    if max(values) == min(values):
        return None
    study = build_study(space, list(zip(validated, values, strict=True)))
    shares = optuna.importance.get_param_importances(study, evaluator=fanova())
    shares = {name: float(share) for name, share in shares.items()}
    return Importance(step=step, trials=len(validated), shares=shares, study=study)


def build_study(
    space: Mapping[str, Dimension], scores: Sequence[tuple[TrialResult, float]], *, mode: str = "min"
) -> "optuna.Study":
    """Return an Optuna study of the searched dimensions, with trials and their objectives."""
    import optuna

    names = [name for name, dimension in space.items() if len(dimension.choices) != 1]
    distributions = {name: _distribution(space[name]) for name in names}
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # Optuna logs every new study
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(sampler=sampler, direction="maximize" if mode == "max" else "minimize")
    for trial, value in scores:
        params = {name: trial.values[name] for name in names}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    return study


def fanova() -> "optuna.importance.FanovaImportanceEvaluator":
    """Return the fANOVA evaluator with a fixed seed."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that its evaluators are experimental
        return optuna.importance.FanovaImportanceEvaluator(seed=0)


def _distribution(dimension: Dimension) -> "optuna.distributions.BaseDistribution":
    import optuna

    if dimension.choices:
        return optuna.distributions.CategoricalDistribution(dimension.choices)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)
