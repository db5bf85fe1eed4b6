"""The verdict on a model: whether it is ahead of all baselines, of which it is not, and what to do next.

A model is ahead of a baseline if the paired 95 % interval of the difference in mIoU lies above 0 for every number of
shots, and behind it if an interval lies below 0. Otherwise the episodes do not tell the two apart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

_ADVICE = {
    "all foreground": (
        "look at the drawn episodes, then train longer (--steps) or start from pretrained weights (--backbone-weights)"
    ),
    "saliency of the query": (
        "use `fss saliency` for such photographs, or train on masks of a saliency student (pipelines.train_saliency) "
        "and so that the support decides (--split.distractor 0.5)"
    ),
    "density ratio, untrained": (
        "use pipelines.evaluate --learner density, which needs no training, or train longer (--steps) on better masks "
        "(pipelines.train_saliency)"
    ),
    "untrained prototype": "train longer (--steps), on more photographs, or with another learning rate",
}
_MOST_EPISODES = 20_000  # more would take hours


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The comparison of a model with all of its baselines."""

    line: str
    """The verdict in one line."""
    ahead_of_all: bool
    """Whether the model is ahead of every baseline for every number of shots."""
    not_ahead_of: tuple[str, ...]
    """Baselines that the model is not ahead of."""
    next: str
    """What to do next."""


def judge(table: Sequence[Row], *, name: str = "the model", uri: str = "MODEL") -> Verdict | None:
    """Return the verdict on a model; None without baselines.

    Args:
        table: rows of :func:`fss.evaluation.report.result_rows`; those with ``ahead`` are baselines.
        name: the model in words.
        uri: URI of the model, for the command that uses it.
    """
    rows = [row for row in table if "ahead" in row]
    if not rows:
        return None
    missed = [row for row in rows if row["ahead_low"] <= 0]
    missed_names = tuple(dict.fromkeys(str(row["method"]) for row in missed))
    beaten = [method for method in dict.fromkeys(str(row["method"]) for row in rows) if method not in missed_names]
    shots = _join([str(count) for count in dict.fromkeys(row["shots"] for row in rows)])
    plural = "" if shots == "1" else "s"
    if not missed:
        advice = f"fss predict --model {uri} --support PICTURE:MASK --query PHOTOGRAPHS --output MASKS"
        text = f"{name} is ahead of all baselines ({'; '.join(beaten)}) at {shots} shot{plural}"
    else:
        advice = _advice(missed)
        parts = [f"{method} ({_differences(missed, method)})" for method in missed_names]
        text = f"{name} is NOT ahead of {_join(parts)}"
        text += f", only of {_join(beaten)}" if beaten else ", that is, of no baseline"
    return Verdict(line=f"{text}. Next: {advice}", ahead_of_all=not missed, not_ahead_of=missed_names, next=advice)


def ahead_text(row: Row) -> str:
    """Return how far a model is ahead of the baseline of a row, in points of mIoU with the interval."""
    low, high = 100 * row["ahead_low"], 100 * row["ahead_high"]
    return f"{100 * row['ahead']:+.1f} [{low:+.1f}, {high:+.1f}] mIoU"


def _differences(missed: Sequence[Row], method: str) -> str:
    rows = [row for row in missed if row["method"] == method]
    return ", ".join(f"{row['shots']}-shot {_relation(row)} {ahead_text(row)}" for row in rows)


def _relation(row: Row) -> str:
    return "behind:" if row["ahead_high"] < 0 else "unsure:"


def _advice(missed: Sequence[Row]) -> str:
    """Return the advice for the baseline that leads by most, or for an unsure lead the episodes that would decide."""
    episodes = [_episodes_to_decide(row) for row in missed]
    if all(count is not None for count in episodes):
        return f"evaluate again with --episodes {max(count for count in episodes if count is not None)}"
    worst = str(min(missed, key=lambda row: float(row["ahead"]))["method"])
    return _ADVICE.get(worst, f"use {worst} itself, or train longer (--steps)")


def _episodes_to_decide(row: Row) -> int | None:
    """Return the episodes that would make this lead sure; None if it is no lead, or too small.

    An interval shrinks with the square root of the number of episodes.
    """
    lead, reach = float(row["ahead"]), float(row["ahead"] - row["ahead_low"])
    if lead <= 0:
        return None
    hundreds = math.ceil(1.2 * row["episodes"] * (reach / lead) ** 2 / 100)
    return 100 * hundreds if 100 * hundreds <= _MOST_EPISODES else None


def _join(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
