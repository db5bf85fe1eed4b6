"""The filter over stored scores: ranks, gates, ties, and what cannot be applied."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fss.collection import Collection, MaskSet
from fss.collection.acceptance import passes_gates, quality, read_scores, select_rows, write_acceptance
from fss.collection.config import AcceptanceRule
from fss.collection.schema import HARD_GATES, QUALITY_SCORES, image_table, mask_table, part_name
from fss.images.mask_codec import mask_row

ALL = AcceptanceRule(quantile=1.0)


def scored(image_id: str, value: float, **changes: float | bool) -> dict[str, object]:
    scores = {**dict.fromkeys(QUALITY_SCORES, value), **dict.fromkeys(HARD_GATES, True), **changes}
    return mask_row(image_id, np.ones((4, 4), np.uint8), [1], scores=scores)


def broken(image_id: str) -> dict[str, object]:
    return mask_row(image_id, None, error="truncated: no pixels")


def masks_of(folder: Path, *parts: list[dict[str, object]]) -> MaskSet:
    collection = Collection.create(str(folder / "c"), name="c", source="test")
    masks = collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    for number, rows in enumerate(parts):
        images = [{"image_id": row["image_id"], "uri": "x", "image": b"x"} for row in rows]
        collection.write_part(part_name(number), image_table(images))
        masks.write_part(part_name(number), mask_table(rows))
    return masks


def table_of(folder: Path, *parts: list[dict[str, object]]) -> pa.Table:
    return read_scores(masks_of(folder, *parts), [part_name(number) for number in range(len(parts))])


def ids(table: pa.Table, rows: np.ndarray) -> list[str]:
    return [table.column("image_id")[int(row)].as_py() for row in rows]


def test_keeps_the_best_share_of_the_valid_across_parts(tmp_path: Path) -> None:
    parts = [[scored(f"i{k}", k / 10) for k in range(start, start + 5)] for start in (0, 5)]
    table = table_of(tmp_path, *parts, [scored("gated", 5.0, gate_area=False), broken("broken")])
    assert ids(table, select_rows(table, AcceptanceRule(quantile=0.3))) == ["i9", "i8", "i7"]
    assert len(select_rows(table, ALL)) == 10
    assert ids(table, select_rows(table, AcceptanceRule(quantile=1.0, gates=())))[0] == "gated"
    assert passes_gates(table).tolist() == [True] * 10 + [False, False]
    assert np.isnan(quality(table)).tolist() == [False] * 11 + [True]
    assert table.column("part").to_pylist() == [0] * 5 + [1] * 5 + [2] * 2
    assert table.column("row").to_pylist() == [*range(5), *range(5), 0, 1]


def test_quality_counts_ranks_and_shares_ties(tmp_path: Path) -> None:
    table = table_of(tmp_path, [scored("a", 0.2, contrast=1e6), scored("b", 0.2), scored("c", 0.9)])
    found = quality(table)
    assert found[0] == pytest.approx((0.25 + 1.0 + 0.25) / 3) and found[2] > found[0] > found[1]
    assert quality(table, ["contrast"]).tolist() == [1.0, 0.0, 0.5]


def test_equal_qualities_go_by_image_id_whatever_their_order(tmp_path: Path) -> None:
    table = table_of(tmp_path, [scored("c", 0.5), scored("a", 0.5), scored("b", 0.5)])
    assert ids(table, select_rows(table, AcceptanceRule(quantile=0.67))) == ["a", "b"]


def test_the_file_holds_rule_and_ids_and_the_masks_stay(tmp_path: Path) -> None:
    masks = masks_of(tmp_path, [scored("a", 0.1), scored("b", 0.9)])
    before = (tmp_path / "c/masks/saliency/part-00000.parquet").stat().st_mtime_ns
    table = read_scores(masks, ["part-00000"])
    write_acceptance(masks, "best", table, AcceptanceRule(quantile=0.5))
    found = masks.read_acceptance("best")
    assert found.accepted == {"b"}
    rule = {"quantile": 0.5, "scores": list(QUALITY_SCORES), "gates": list(HARD_GATES), "within_clusters": False}
    assert found.rule == rule
    assert (tmp_path / "c/masks/saliency/part-00000.parquet").stat().st_mtime_ns == before


def test_nothing_valid_accepts_nothing(tmp_path: Path) -> None:
    assert select_rows(table_of(tmp_path, [broken("a")]), ALL).tolist() == []


def test_where_nothing_was_found_nothing_is_accepted(tmp_path: Path) -> None:
    rows = [mask_row(name, np.zeros((4, 4), np.uint8), scores=dict.fromkeys(HARD_GATES, False)) for name in "ab"]
    table = table_of(tmp_path, rows)
    assert ids(table, select_rows(table, ALL)) == []


def test_the_best_of_every_cluster(tmp_path: Path) -> None:
    easy = [scored(f"easy-{n}", 0.9 + n / 100) for n in range(4)]
    rare = [scored(f"rare-{n}", 0.1 + n / 100) for n in range(2)] + [broken("rare-2")]
    table = table_of(tmp_path, easy, rare)
    rule = AcceptanceRule(quantile=0.5, within_clusters=True)
    with pytest.raises(ValueError, match="no clusters"):
        select_rows(table, rule)
    grouped = table.append_column("cluster", pa.array([0] * 4 + [1, 1, None], pa.int32()))
    assert sorted(ids(grouped, select_rows(grouped, rule))) == ["easy-2", "easy-3", "rare-1"]
    assert sorted(ids(table, select_rows(table, AcceptanceRule(quantile=0.5)))) == ["easy-1", "easy-2", "easy-3"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantile": 0.0}, "quantile must be greater than 0, got 0.0"),
        ({"quantile": 2.0}, "quantile must be less than or equal to 1, got 2.0"),
        ({"scores": ("beauty",)}, "there are no scores beauty; the scores are agreement"),
        ({"gates": ("garden",)}, "there are no gates garden; the gates are gate_area"),
        ({"scores": ()}, "scores must have at least 1 item"),
    ],
)
def test_invalid_rules_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        AcceptanceRule(**settings)
    assert str(raised.value).startswith(message)


def test_a_set_without_scores_is_told(tmp_path: Path) -> None:
    table = table_of(tmp_path, [mask_row("a", np.ones((4, 4), np.uint8), [1])])
    with pytest.raises(ValueError, match="no mask has all of the scores"):
        select_rows(table, ALL)
