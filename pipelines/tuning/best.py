"""The results of a sweep: the best trial, its settings as a file for other jobs, and a table."""

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from fss.core.config import to_dict
from fss.core.console import text_table
from fss.core.flags import flags_without_effect
from pipelines.training.config import TrainSettings
from pipelines.tuning.space import QUANTILE, Dimension
from pipelines.tuning.trial_runs import TrialResult


def best_trial(trials: Sequence[TrialResult], mode: str) -> TrialResult:
    """Return the best of the trials that reached the last step.

    Raises:
        RuntimeError: no trial did; the message has the error of the first trial that failed.
    """
    completed = [trial for trial in trials if trial.state == "completed" and trial.objective is not None]
    if not completed:
        failed = [trial for trial in trials if trial.state == "failed"]
        reason = f"{failed[0].trial_id} failed: {failed[0].error}" if failed else "all were stopped early"
        also = f" ({len(failed)} trials failed)" if len(failed) > 1 else ""
        raise RuntimeError(f"none of {len(trials)} trials reached the last step; {reason}{also}")
    choose = max if mode == "max" else min
    return choose(completed, key=lambda trial: trial.objective or 0.0)


def best_settings(train: TrainSettings, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a trial as the content of a settings file, with a section per job.

    ``pipelines.train --config best.json`` reads the section train, and ``pipelines.masksplit`` reads all sections.
    Settings without an effect beside the others are left out: a job refuses those of a settings file.

    Args:
        train: training settings of the trial.
        values: drawn values of the trial by dimension.
    """
    sections: dict[str, Any] = {"train": to_dict(train)}
    for path in flags_without_effect(train):
        *groups, name = path.split(".")
        del functools.reduce(operator.getitem, groups, sections["train"])[name]
    if QUANTILE in values:
        sections["pseudomask"] = {"accept_quantile": values[QUANTILE]}
    return sections


def table(
    space: Mapping[str, Dimension],
    trials: Sequence[TrialResult],
    *,
    objective: str,
    mode: str,
    markdown: bool = False,
) -> str:
    """Return a table of all trials, best first, followed by the reasons of the failures, as text or Markdown."""
    names = [name for name, dimension in space.items() if len(dimension.choices) != 1]
    sign = -1 if mode == "max" else 1
    ranked = sorted(trials, key=lambda each: (each.objective is None, sign * (each.objective or 0.0)))
    rows = []
    for each in ranked:
        score = "" if each.objective is None else f"{each.objective:.4f}"
        values = [_short(each.values.get(name)) for name in names]
        rows.append([each.trial_id, each.state, str(max(each.curve, default=0)), score, *values])
    item = "\n- " if markdown else ""
    failures = [f"{item}{each.trial_id} failed: {each.error}\n" for each in trials if each.state == "failed"]
    header = ["trial", "state", "steps", objective, *names]
    return text_table(header, rows, markdown=markdown) + "".join(failures)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
