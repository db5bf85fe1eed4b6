"""The assessment of a round: the drift of the masks from the previous ones, and the decision of the round gate.

``metadata/<set>/`` of the collection gets report-drift.json, report-drift.md, and report-drift.png with the masks that
changed most.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fss.collection import ImageReader, MaskSet
from fss.collection.acceptance import Rows, passes_gates, read_scores
from fss.core import storage
from fss.evaluation.metrics import Interval
from fss.evaluation.verdict import Verdict
from fss.images.mask_codec import any_class
from fss.relabel.audit import audit, gain, mean_iou
from fss.relabel.config import RoundGateConfig
from fss.relabel.drift import Drift, mask_pairs, measure_drift
from fss.relabel.feature_tables import with_clusters
from fss.relabel.round_gate import RoundDecision, evaluate_round, judge_masks, median_agreement
from fss.tracking.run import Run
from fss.visualize import CORRECT, FOREGROUND, MISSED, WRONG, EpisodeView, episode_sheet, png_bytes

EXAMPLES = 12  # masks in the picture
NAME = "report-drift"


@dataclass(frozen=True, kw_only=True)
class RoundAssessment:
    """Metrics of a round, its report, and the decision of the round gate."""

    metrics: dict[str, float]
    """Drift, agreement, and IoU with the ground truth if there is one."""
    outputs: dict[str, str]
    """URIs of the written files."""
    decision: RoundDecision
    """Whether to train on the new masks."""
    verdict: Verdict
    """Comparison of the new masks with the previous ones."""


def assess_round(
    before: tuple[MaskSet, str | None],
    now: tuple[MaskSet, str | None],
    parts: Sequence[str],
    config: RoundGateConfig,
    *,
    truth: MaskSet | None,
    seed: int,
    mlflow_run: Run,
) -> RoundAssessment:
    """Compare a new mask set with the previous one, write the report, and decide on the next round.

    Args:
        before: the previous set, and the name of its acceptance (None: all masks).
        now: the new set, and the name of its acceptance.
        parts: names of the new set's parts.
        config: thresholds of the gate.
        truth: ground truth of some pictures; None: there is none.
        seed: seed of the sample of masks whose pixels are compared.
        mlflow_run: run that the report is logged to.
    """
    (old_set, _), (new_set, _) = before, now
    old, new = read_scores(old_set, parts), read_scores(new_set, parts)
    new = with_clusters(new, new_set, parts)
    drift = measure_drift(
        old_set, new_set, parts, (old, new), (_accepted(*before, old), _accepted(*now, new)), seed=seed
    )
    agreement = median_agreement(new)
    measured, difference = ({}, None) if truth is None else _measure(old_set, new_set, truth, parts)
    decision = evaluate_round(config, drift, agreement, difference)
    metrics = {**_metrics(drift), "median agreement of support sets": round(agreement, 4), **measured}
    title = f"{new_set.name} after {old_set.name}, {old_set.collection.name}"
    verdict = judge_masks(new_set.name, old_set.name, decision, difference)
    text = drift.markdown(title) + _lines(metrics) + f"\n{verdict.line}\n\nDecision: {decision}\n"
    views = _views(old_set, new_set, parts, new)
    sheet = episode_sheet(views, side=200, title=f"{title}: the masks that changed most", legend=_CHANGES)
    values = {**drift.as_dict(), "metrics": metrics, "decision": str(decision)}
    contents = {".md": text.encode(), ".json": (json.dumps(values, indent=1) + "\n").encode(), ".png": png_bytes(sheet)}
    for ending, data in contents.items():
        storage.write_atomically(*storage.resolve(storage.join(new_set.metadata_uri, NAME + ending)), data)
    mlflow_run.log_image(f"{NAME}.png", sheet)
    mlflow_run.log_text(f"{NAME}.md", text)
    mlflow_run.log_json(f"{NAME}.json", values)
    return RoundAssessment(
        metrics=metrics,
        outputs={"drift": storage.join(new_set.metadata_uri, f"{NAME}.md")},
        decision=decision,
        verdict=verdict,
    )


def _accepted(masks: MaskSet, acceptance: str | None, table: pa.Table) -> frozenset[str]:
    if acceptance is not None:
        return masks.read_acceptance(acceptance).accepted
    return frozenset(table.filter(pa.array(passes_gates(table, ()))).column("image_id").to_pylist())


def _metrics(drift: Drift) -> dict[str, float]:
    metrics = {"changed pixels": drift.changed, "vanished objects": drift.vanished, "ignored pixels": drift.ignored}
    return {name: round(value, 4) for name, value in metrics.items()} | {"area shift": drift.shifts()["area"]}


def _measure(before: MaskSet, now: MaskSet, truth: MaskSet, parts: Sequence[str]) -> tuple[dict[str, float], Interval]:
    """Return the metrics against the ground truth, and the gain in IoU over the previous set."""
    old, new = audit(before, truth, parts), audit(now, truth, parts)
    change = gain(new, old)
    metrics = {"audited pictures": float(len(new))}
    for name, interval in (("audit IoU before", mean_iou(old)), ("audit IoU", mean_iou(new)), ("audit gain", change)):
        metrics |= {f"{name}{end}": round(getattr(interval, of), 4) for end, of in _ENDS.items()}
    return metrics, change


_CHANGES = (
    (FOREGROUND, "left: earlier mask"),
    (CORRECT, "right: kept"),
    (WRONG, "right: added"),
    (MISSED, "right: removed"),
)
"""Legend of the masks that changed."""
_ENDS = {"": "value", " low": "low", " high": "high"}


def _lines(metrics: dict[str, float]) -> str:
    return (
        "\n".join(["", "| metric | |", "|---|---|", *(f"| {name} | {value:g} |" for name, value in metrics.items())])
        + "\n"
    )


def _views(before: MaskSet, now: MaskSet, parts: Sequence[str], table: pa.Table) -> list[EpisodeView]:
    """Return views of the pictures whose masks changed most; the previous mask is drawn as truth."""
    agreement = np.asarray(table.column("previous").fill_null(np.nan).to_numpy(), np.float64)
    candidates = np.flatnonzero(passes_gates(table, ()) & ~np.isnan(agreement))
    rows: Rows = candidates[np.argsort(agreement[candidates], kind="stable")[:EXAMPLES]]
    reader = ImageReader(before.collection)
    views = []
    for row, (old, new) in zip(rows, mask_pairs(before, now, parts, table, rows), strict=True):
        image_id = table.column("image_id")[int(row)].as_py()
        views.append(
            EpisodeView(
                query=reader.read(image_id).rgb,
                truth=any_class(old),
                prediction=any_class(new),
                supports=(),
                caption=f"{image_id}  IoU of both masks {agreement[row]:.2f}",
            )
        )
    return views
