"""The end of a search: the best trial, its settings as a file for other jobs, and a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from fss.core.config import to_dict
from fss.core.console import text_table
from pipelines.training.config import TrainJobConfig
from pipelines.tuning.space import QUANTILE, Dimension
from pipelines.tuning.trial_runs import TrialRecord

PLACES = ("collection", "output", "name", "scale", "tracking", "log_model", "dry_run", "overwrite")
"""Settings of a training that say where and how it runs, not what it learns."""
_SHARED = ("split", "augment")
_NETWORK = ("learner", "masking", "backbone", "image_size", "width", "similarity")
_TRAINING = ("steps", "learning_rate", "weight_decay", "ema")


def best_trial(trials: Sequence[TrialRecord], mode: str) -> TrialRecord:
    """Return the best of the trials that were trained to the end.

    Raises:
        RuntimeError: there is none, with the reasons of those that failed.
    """
    whole = [trial for trial in trials if trial.state == "completed" and trial.objective is not None]
    if not whole:
        reasons = sorted({trial.error for trial in trials if trial.error}) or ["all were stopped early"]
        raise RuntimeError(f"none of {len(trials)} trials was trained to the end: {'; '.join(reasons)}")
    choose = max if mode == "max" else min
    return choose(whole, key=lambda trial: trial.objective or 0.0)


def best_settings(config: TrainJobConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a trial for the jobs that take them: ``python -m pipelines.train --config best.json``.

    Args:
        config: of the trial's training.
        values: what it drew.
    """
    train = {name: value for name, value in to_dict(config).items() if name not in PLACES}
    masksplit = {name: train[name] for name in _SHARED}
    masksplit |= {name: train["segmenter"][name] for name in _NETWORK}
    masksplit |= {name: train["training"][name] for name in _TRAINING}
    masksplit["weights"] = train["segmenter"]["backbone_weights"]
    masksplit["batch"] = train["stream"]["batch_size"]
    if QUANTILE in values:
        masksplit["accept_quantile"] = values[QUANTILE]
    return {"train": train, "masksplit": masksplit}


def table(space: Mapping[str, Dimension], trials: Sequence[TrialRecord], *, objective: str, mode: str) -> str:
    """Return all trials as aligned text, the best first; those that failed say why."""
    names = [name for name, dimension in space.items() if len(dimension.choices) != 1]
    sign = -1 if mode == "max" else 1
    ranked = sorted(trials, key=lambda each: (each.objective is None, sign * (each.objective or 0.0)))
    rows = []
    for each in ranked:
        score = "" if each.objective is None else f"{each.objective:.4f}"
        drawn = [_short(each.values.get(name)) for name in names]
        rows.append([each.trial_id, each.state, str(max(each.curve, default=0)), score, *drawn])
    failures = [f"{each.trial_id} failed: {each.error}\n" for each in trials if each.state == "failed"]
    return text_table(["trial", "state", "steps", objective, *names], rows) + "".join(failures)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
