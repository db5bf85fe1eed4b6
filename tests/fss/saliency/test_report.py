"""The report of a mask set against counts made by hand."""

from pathlib import Path

import numpy as np
import pytest

from fss.collection.acceptance import read_scores, select_rows
from fss.collection.config import AcceptanceRule
from fss.collection.schema import HARD_GATES, QUALITY_SCORES
from fss.images.mask_codec import mask_row
from fss.saliency.report import MaskReport, build_report, rejection_reason, rows_by_part
from tests.fss.collection.test_acceptance import broken, masks_of

PARTS = ["part-00000", "part-00001"]
RULE = AcceptanceRule(quantile=0.5)


def row(name: str, value: float, centre: tuple[int, int], **changes: float | bool) -> dict[str, object]:
    mask = np.zeros((100, 100), np.uint8)
    mask[centre[0] - 5 : centre[0] + 5, centre[1] - 5 : centre[1] + 5] = 1
    scores = dict.fromkeys(QUALITY_SCORES, value) | dict.fromkeys(HARD_GATES, True) | {"area": 0.12}
    return mask_row(name, mask, [1], scores=scores | changes)


@pytest.fixture
def report_and_reasons(tmp_path: Path) -> tuple[MaskReport, dict[str, str]]:
    first = [row("a", 0.9, (50, 50)), row("b", 0.8, (50, 50)), row("c", 0.2, (10, 90)), broken("d")]
    second = [
        row("e", 0.1, (90, 10), area=0.62),
        row("f", 1.0, (50, 50), gate_area=False),
        row("g", 0.0, (50, 50), gate_area=False, gate_span=False),
    ]
    masks = masks_of(tmp_path, first, second)
    table = read_scores(masks, PARTS)
    accepted = select_rows(table, RULE)
    ids = table.column("image_id").to_pylist()
    assert [ids[row_number] for row_number in accepted] == ["a", "b"]
    reasons = {ids[row_number]: rejection_reason(table, row_number, RULE) for row_number in (2, 5, 6)}
    return build_report(masks, PARTS, accepted, RULE), reasons


def test_every_image_is_counted_once(report_and_reasons: tuple[MaskReport, dict[str, str]]) -> None:
    report, reasons = report_and_reasons
    assert report.counts == {
        "images": 7,
        "no mask: truncated": 1,
        "rejected by a gate": 2,
        "rejected by rank": 2,
        "accepted": 2,
    }
    assert report.gates == dict.fromkeys(HARD_GATES, (0, 0)) | {"gate_area": (2, 1), "gate_span": (1, 0)}
    assert reasons == {"c": "rank", "f": "gate area", "g": "gate area, span"}


def test_areas_positions_and_scores_before_and_after(report_and_reasons: tuple[MaskReport, dict[str, str]]) -> None:
    report, _ = report_and_reasons
    assert (report.area[0][2], report.area[0][12], report.area[0].sum()) == (5, 1, 6)
    assert (report.area[1][2], report.area[1].sum()) == (2, 2)
    expected = np.zeros((9, 9), int)
    expected[4, 4], expected[0, 8], expected[8, 0] = 4, 1, 1
    assert (report.position[0] == expected).all()
    assert report.position[1].sum() == report.position[1][4, 4] == 2
    assert report.shifts() == {"area": pytest.approx(1 / 6, abs=1e-3), "position": pytest.approx(1 / 3, abs=1e-3)}
    every, accepted = report.scores["contrast"]
    assert (every[2], accepted[2]) == (pytest.approx(0.5), pytest.approx(0.85))


def test_the_report_as_markdown_and_json(report_and_reasons: tuple[MaskReport, dict[str, str]]) -> None:
    report, _ = report_and_reasons
    text = report.markdown("masks of c")
    assert "| masks that fail a check | 2 | 28.6% |" in text
    assert "| gate_area | 2 (28.6%) | 1 |" in text
    assert "| d | truncated: no pixels |" in text
    assert report.as_dict()["gates"]["gate_area"] == {"rejected": 2, "alone": 1}


def test_a_mask_set_without_masks_has_a_report(tmp_path: Path) -> None:
    masks = masks_of(tmp_path, [broken("a")])
    table = read_scores(masks, PARTS[:1])
    report = build_report(masks, PARTS[:1], select_rows(table, RULE), RULE)
    assert report.counts["images"] == 1 and report.shifts() == {"area": 0.0, "position": 0.0}


def test_rows_are_grouped_by_part(tmp_path: Path) -> None:
    masks = masks_of(tmp_path, [row(n, 0.5, (50, 50)) for n in "ab"], [row(n, 0.5, (50, 50)) for n in "cd"])
    table = read_scores(masks, PARTS)
    assert rows_by_part(table, np.array([3, 0, 2])) == {1: [(0, 1), (2, 0)], 0: [(1, 0)]}
