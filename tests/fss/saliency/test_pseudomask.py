"""Pseudo-masks of a part: aligned rows, quarantine and reproducible results."""

from pathlib import Path

import cv2
import pytest

from fss.collection import Collection
from fss.collection.part_pipeline import RowSelection
from fss.collection.schema import image_table, make_image_id
from fss.images.mask_codec import decode_mask, decode_soft
from fss.saliency import SaliencyConfig, SaliencyEstimator
from fss.saliency.pseudomask import OBJECT, pseudomask_part
from tests.helpers.discs import disc, iou


def make(path: Path) -> tuple[Collection, list[object]]:
    collection = Collection.create(str(path), name="discs", source="tests")
    rows, truths = [], []
    for seed in range(3):
        rgb, truth = disc(seed=seed, centre=(0.4 + 0.1 * seed, 0.5))
        data = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
        rows.append({"image_id": make_image_id(data, f"{seed}.png"), "uri": f"{seed}.png", "image": data})
        truths.append(truth)
    lie = b"no picture at all"
    rows.append({"image_id": "bad-00000000", "uri": "bad.jpg", "error": "truncated: half a file"})
    rows.append({"image_id": make_image_id(lie, "lie.jpg"), "uri": "lie.jpg", "image": lie})
    collection.write_part("part-00000", image_table(rows))
    return collection, truths


def test_a_mask_part_has_a_row_per_image(tmp_path: Path) -> None:
    collection, truths = make(tmp_path / "c")
    masks = collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    statistics = pseudomask_part(collection.uri, "saliency", "part-00000", SaliencyConfig())
    assert statistics == {"part": "part-00000", "images": 5, "errors": 2, "accepted": 3, "rejected": 0}
    rows = masks.read_part("part-00000").to_pylist()
    assert [row["image_id"] for row in rows] == collection.image_ids()["part-00000"]
    for row, truth in zip(rows, truths, strict=False):
        mask = decode_mask(row["mask"])
        assert iou(mask, truth) > 0.9
        assert row["classes"] == [{"id": OBJECT, "pixels": int((mask > 0).sum())}]
        assert decode_soft(row["soft"]).shape == mask.shape
        assert row["scores"]["gate_area"] and row["error"] is None
    assert rows[3]["error"].startswith("truncated") and rows[3]["mask"] is None
    assert rows[4]["error"] and rows[4]["mask"] is None
    pseudomask_part(collection.uri, "saliency", "part-00000", SaliencyConfig())
    assert masks.read_part("part-00000").to_pylist() == rows


def test_some_rows_are_computed_without_the_part_and_faulty_ones_keep_their_reason(tmp_path: Path) -> None:
    collection, _ = make(tmp_path / "c")
    masks = collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    some = RowSelection(only=range(1, 4))
    statistics = pseudomask_part(collection.uri, "saliency", "part-00000", SaliencyConfig(), selection=some)
    assert (statistics["images"], statistics["errors"]) == (3, 1)
    assert masks.finished_parts() == set()
    faulty = RowSelection(faulty={1: "its process died", 3: "never seen, as the image has an error"})
    pseudomask_part(collection.uri, "saliency", "part-00000", SaliencyConfig(), selection=faulty)
    errors = masks.read_part("part-00000").column("error").to_pylist()
    assert errors[:4] == [None, "faulty: its process died", None, "truncated: half a file"]


def test_a_failing_image_gets_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection, _ = make(tmp_path / "c")
    masks = collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    real, second = SaliencyEstimator.estimate, collection.image_ids()["part-00000"][1]

    def fragile(self: SaliencyEstimator, rgb: object, *, image_id: str = "") -> object:
        if image_id == second:
            raise RuntimeError("singular matrix")
        return real(self, rgb, image_id=image_id)  # type: ignore[arg-type]

    monkeypatch.setattr(SaliencyEstimator, "estimate", fragile)
    pseudomask_part(collection.uri, "saliency", "part-00000", SaliencyConfig())
    errors = masks.read_part("part-00000").column("error").to_pylist()
    assert errors[1] == "saliency: RuntimeError: singular matrix"
    assert errors[0] is None and errors[2] is None
