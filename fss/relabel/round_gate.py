"""The round gate decides whether a new mask set is worth training on.

Without labels nobody can prove that masks became better, but a collapse can be detected: objects vanish or fill their
images, support sets contradict each other, or nearly every pixel changes. An audit against ground truth also counts
where there is one.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fss.evaluation.metrics import Interval
from fss.evaluation.verdict import Verdict
from fss.relabel.config import RoundGateConfig
from fss.relabel.drift import Drift


@dataclass(frozen=True, kw_only=True)
class RoundDecision:
    """Whether the next round may train on the new masks."""

    reasons: tuple[str, ...]
    """Every check that failed, in words; empty where all passed."""

    @property
    def proceed(self) -> bool:
        """Whether every check passed."""
        return not self.reasons

    def __str__(self) -> str:
        return "proceed" if self.proceed else "stop: " + "; ".join(self.reasons)


def evaluate_round(
    config: RoundGateConfig, drift: Drift, agreement: float, gain: Interval | None = None
) -> RoundDecision:
    """Check a new mask set against the thresholds of the gate.

    Args:
        config: the thresholds.
        drift: how the new set differs from the previous one.
        agreement: median agreement of the support sets, in [0, 1] (:func:`median_agreement`).
        gain: mean IoU of the audit minus that of the previous set; None without an audit.
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
        text = (
            f"the audit's IoU changed by {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], which is no sure gain"
        )
        checks.append((gain.low <= 0, text))
    return RoundDecision(reasons=tuple(text for failed, text in checks if failed))


def judge_masks(name: str, before: str, decision: RoundDecision, gain: Interval | None = None) -> Verdict:
    """Return the verdict on a new mask set; the previous one is its baseline.

    Args:
        name: name of the new set.
        before: name of the previous set.
        decision: decision of the gate.
        gain: mean IoU of the audit minus that of the previous set; None without an audit.
    """
    better = gain is not None and gain.low > 0
    if gain is None:
        evidence = f"{name} was not compared with ground truth, and the gate only detects a collapse"
        advice = f"train on {name} and compare the two models"
    else:
        interval = f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}] points of IoU"
        evidence = f"{name} is {'ahead' if better else 'NOT surely ahead'} of {before}: {interval}"
        advice = f"train on it: --mask-set {name}"
    if not decision.proceed:
        evidence += f". The gate says {decision}"
        advice = f"keep the masks of {before}"
    return Verdict(
        line=f"{evidence}. Next: {advice}",
        ahead_of_all=better,
        not_ahead_of=() if better else (before,),
        next=advice,
    )


def median_agreement(table: pa.Table) -> float:
    """Return the median of the score ``support`` in a table of ``acceptance.read_scores``; 0 where no mask has one."""
    values = np.asarray(table.column("support").fill_null(np.nan).to_numpy(), np.float64)
    scores = values[~np.isnan(values)]
    return float(np.median(scores)) if len(scores) else 0.0
