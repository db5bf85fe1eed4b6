"""The verdict on a self-training: whether its last stage is better than its own supervised stage."""

from collections.abc import Mapping
from dataclasses import dataclass

from fss.training.semi_supervised.config import Stage

LAST: Stage = 3


@dataclass(frozen=True, kw_only=True)
class StageVerdict:
    """The comparison of the last stage with the supervised one."""

    line: str
    """The verdict in one line."""
    stage: Stage
    """Stage whose model and masks are the result."""
    difference: float | None
    """mIoU of the last stage minus that of stage 1 on the validation pictures; None without them."""


def judge_stages(scores: Mapping[Stage, float]) -> StageVerdict:
    """Return the verdict on a self-training.

    Args:
        scores: mIoU of the last weights of each stage on the validation pictures; empty without them.
    """
    if not scores:
        line = (
            "it is not known whether stage 3 is better than training on the labels alone (stage 1); give a "
            "--val-collection, a collection with labels"
        )
        return StageVerdict(line=line, stage=LAST, difference=None)
    difference = scores[LAST] - scores[1]
    compared = f"stage 3 has mIoU {scores[LAST]:.3f} on the validation pictures, training on the labels alone "
    compared += f"(stage 1) {scores[1]:.3f}"
    if difference >= 0:
        line = f"{compared}: {100 * difference:+.1f} points. The model is that of stage 3."
        return StageVerdict(line=line, stage=LAST, difference=difference)
    best = max(scores, key=lambda stage: scores[stage])
    line = (
        f"{compared}: self-training lost {-100 * difference:.1f} points. The model is that of stage {best}. "
        f"Train stage 1 longer (--training.first.steps), or label more pictures."
    )
    return StageVerdict(line=line, stage=best, difference=difference)
