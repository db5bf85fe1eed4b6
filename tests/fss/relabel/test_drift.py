"""Drift, audit and the round gate on hand-made masks."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fss.collection import Collection, MaskSet
from fss.collection.acceptance import read_scores
from fss.collection.schema import mask_table
from fss.evaluation.metrics import Interval
from fss.images.mask_codec import mask_row
from fss.relabel.audit import audit, binarize_mask, gain, mean_iou
from fss.relabel.config import RoundGateConfig
from fss.relabel.drift import Drift, measure_drift
from fss.relabel.round_gate import RoundDecision, evaluate_round, judge_masks, median_agreement
from tests.helpers.discs import coloured_collection

LEFT = np.zeros((60, 72), np.uint8)
LEFT[:, :36] = 1
FULL, NONE = np.ones_like(LEFT), np.zeros_like(LEFT)
HALF_IGNORED = np.where(LEFT == 1, 255, 0).astype(np.uint8)


def write(collection: Collection, name: str, masks: list[np.ndarray | None], soft: np.ndarray | None = None) -> MaskSet:
    """Write a mask set of four images, with the scores that these tests read."""
    mask_set = collection.create_mask_set(name, config_hash="d" * 16, provenance={})
    ids = collection.read_part("part-00000", ["image_id"]).column("image_id").to_pylist()
    rows = []
    for image_id, mask in zip(ids, masks, strict=True):
        if mask is None:
            rows.append(mask_row(image_id, None, error="test: none"))
            continue
        area = float((mask == 1).mean())
        scores = {"area": area, "support": area, "gate_area": 0 < area < 0.9}
        scores |= dict.fromkeys(("gate_border", "gate_corners", "gate_span", "gate_component"), True)
        rows.append(mask_row(image_id, mask, [1] if (mask == 1).any() else [], soft=soft, scores=scores))
    mask_set.write_part("part-00000", mask_table(rows))
    return mask_set


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return coloured_collection(tmp_path / "c", count=4)


def drift_of(collection: Collection, old: list[np.ndarray | None], new: list[np.ndarray | None]) -> Drift:
    before, now = write(collection, "before", old), write(collection, "now", new)
    tables = read_scores(before, ["part-00000"]), read_scores(now, ["part-00000"])
    second = tables[1].append_column("cluster", pa.array([0, 0, 1, None], pa.int32()))
    ids = second.column("image_id").to_pylist()
    return measure_drift(
        before, now, ["part-00000"], (tables[0], second), (frozenset(ids[:2]), frozenset([ids[0], ids[2]]))
    )


def test_shares_equal_those_counted_by_hand(collection: Collection) -> None:
    drift = drift_of(collection, [LEFT, LEFT, LEFT, None], [LEFT, NONE, HALF_IGNORED, LEFT])
    assert drift.pictures == 3
    assert drift.changed == pytest.approx((0 + 0.5 + 0) / 3)  # ignored pixels are not counted
    assert drift.vanished == pytest.approx(2 / 3) and drift.ignored == pytest.approx(0.5 / 3)
    assert drift.valid == (0.75, 0.5)
    assert [counts.tolist() for counts in drift.clusters] == [[2, 1], [2, 0], [1, 1]]
    assert (drift.area[0].sum(), drift.area[1].sum()) == (3, 4)
    text = drift.markdown("title")
    assert "| pixels that changed | 16.7% |" in text and "| 1 | 1 | 0 | 1 |" in text
    assert drift.as_dict()["clusters"]["accepted now"] == [1, 1]


def test_equal_sets_do_not_drift(collection: Collection) -> None:
    drift = drift_of(collection, [LEFT] * 4, [LEFT] * 4)
    assert drift.changed == drift.vanished == drift.shifts()["area"] == 0.0
    assert "nothing new" in str(evaluate_round(RoundGateConfig(), drift, 0.9))


def test_the_audit_counts_object_against_background(collection: Collection) -> None:
    truth = write(collection, "truth", [LEFT, LEFT, NONE, None])
    masks = write(collection, "masks", [FULL, None, FULL, FULL])
    counts = audit(masks, truth, ["part-00000"])
    assert counts.shape == (2, 2, 2)  # pictures without a true object are left out
    assert mean_iou(counts).value == pytest.approx((0.5 + 0) / 2)
    better = audit(write(collection, "better", [LEFT, LEFT, NONE, NONE]), truth, ["part-00000"])
    assert mean_iou(better).value == 1.0 and gain(better, counts).value == pytest.approx(0.75)
    assert gain(better, counts).low < 0, "two pictures are too few to be sure"
    assert gain(np.tile(better, (3, 1, 1)), np.tile(counts, (3, 1, 1))).low > 0
    with pytest.raises(ValueError, match="no object"):
        audit(masks, write(collection, "nothing", [None] * 4), ["part-00000"])


def test_ignored_pixels_are_decided_by_the_soft_map(collection: Collection) -> None:
    soft = np.where(np.arange(72)[None] < 18, 0.6, 0.4).astype(np.float32).repeat(60, 0)
    masks = write(collection, "unsure", [HALF_IGNORED] * 4, soft=soft)
    row = masks.read_part("part-00000").to_pylist()[0]
    assert (binarize_mask(row["mask"], row["soft"]) == (np.arange(72)[None] < 18)).all()
    assert not binarize_mask(row["mask"], None).any()


def test_the_decision_names_every_reason(collection: Collection) -> None:
    good = drift_of(collection, [LEFT] * 4, [LEFT, LEFT, LEFT, np.roll(LEFT, 9, 1)])
    assert (
        str(evaluate_round(RoundGateConfig(), good, 0.9)) == "proceed"
        and evaluate_round(RoundGateConfig(), good, 0.9).proceed
    )
    assert "agree by 0.20" in str(evaluate_round(RoundGateConfig(), good, 0.2))
    clear, unclear = Interval(value=0.05, low=0.01, high=0.09), Interval(value=0.05, low=-0.01, high=0.11)
    assert evaluate_round(RoundGateConfig(), good, 0.9, clear).proceed and "no sure gain" in str(
        evaluate_round(RoundGateConfig(), good, 0.9, unclear)
    )


@pytest.mark.parametrize(
    ("gain", "reasons", "better", "words"),
    [
        ((0.05, 0.01, 0.09), (), True, "new is ahead of old: +5.0 [+1.0, +9.0] points of IoU. Next: train on it"),
        ((0.05, -0.01, 0.09), ("no gain",), False, "new is NOT surely ahead of old: +5.0 [-1.0, +9.0] points"),
        ((0.05, 0.01, 0.09), ("collapse",), True, "The gate says stop: collapse. Next: keep the masks of old"),
        (None, (), False, "not compared with ground truth, and the gate only detects a collapse. Next: train on new"),
    ],
)
def test_the_verdict_compares_with_the_previous_masks(
    gain: tuple[float, float, float] | None, reasons: tuple[str, ...], better: bool, words: str
) -> None:
    interval = gain and Interval(value=gain[0], low=gain[1], high=gain[2])
    verdict = judge_masks("new", "old", RoundDecision(reasons=reasons), interval)
    assert words in verdict.line and "\n" not in verdict.line
    assert (verdict.ahead_of_all, verdict.not_ahead_of) == (better, () if better else ("old",))


def test_collapse_stops_the_rounds(tmp_path: Path) -> None:
    collapsed = drift_of(coloured_collection(tmp_path / "d", count=4), [LEFT] * 4, [FULL, FULL, FULL, NONE])
    text = str(evaluate_round(RoundGateConfig(), collapsed, 0.9))
    assert text.startswith("stop: no mask passes every gate; masks that pass every gate fell from 100% to 0%")
    assert "areas shifted by 1.00" in text and "50% of the pixels changed" in text


def test_median_agreement_skips_missing_scores(collection: Collection) -> None:
    masks = write(collection, "some", [LEFT, FULL, None, LEFT])
    assert median_agreement(read_scores(masks, ["part-00000"])) == 0.5
    assert median_agreement(read_scores(write(collection, "none", [None] * 4), ["part-00000"])) == 0.0


def test_shares_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"min_changed is at most max_changed, got 0\.6 and 0\.4"):
        RoundGateConfig(min_changed=0.6)
