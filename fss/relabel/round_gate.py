"""Go or no go: is a new mask set worth training on? Told without labels, and by an audit where there is one.

Without labels nobody can say that masks became better, but it shows when they became worse: objects vanish or swallow
their pictures, supports contradict each other, or everything changed.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fss.evaluation.metrics import Interval
from fss.relabel.config import RoundGateConfig
from fss.relabel.drift import Drift


@dataclass(frozen=True, kw_only=True)
class RoundDecision:
    """Whether to go on, and why not."""

    reasons: tuple[str, ...]
    """What speaks against it; nothing: go."""

    @property
    def proceed(self) -> bool:
        """Whether the new masks shall be trained on."""
        return not self.reasons

    def __str__(self) -> str:
        return "proceed" if self.proceed else "stop: " + "; ".join(self.reasons)


def evaluate_round(
    config: RoundGateConfig, drift: Drift, agreement: float, gain: Interval | None = None
) -> RoundDecision:
    """Validator a new mask set.

    Args:
        config: what it has to show.
        drift: how it differs from the one of before.
        agreement: median of the support-set agreement (:func:`median_agreement`).
        gain: of the audit: mean IoU now minus before.
    """
    before, now = drift.valid
    checks = [
        (now == 0, "no mask passes every gate"),
        (agreement < config.min_agreement, f"support sets agree by {agreement:.2f} only"),
        (now < config.min_valid * before, f"masks that pass every gate fell from {before:.0%} to {now:.0%}"),
        (drift.shifts()["area"] > config.max_area_shift, f"areas shifted by {drift.shifts()['area']:.2f}"),
        (drift.changed > config.max_changed, f"{drift.changed:.0%} of the pixels changed"),
        (drift.changed < config.min_changed, f"only {drift.changed:.2%} of the pixels changed: there is nothing new"),
    ]
    if gain is not None:
        told = (
            f"the audit's IoU changed by {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], which is no sure gain"
        )
        checks.append((gain.low <= 0, told))
    return RoundDecision(reasons=tuple(text for failed, text in checks if failed))


def median_agreement(table: pa.Table) -> float:
    """Median of the score ``support`` of a table of ``acceptance.read_scores``; 0 where no mask has one."""
    values = np.asarray(table.column("support").fill_null(np.nan).to_numpy(), np.float64)
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else 0.0
