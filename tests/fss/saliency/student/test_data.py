"""Training data of the student from a collection with pseudo-masks."""

from pathlib import Path

import numpy as np
import pytest

from fss.collection import Collection, MaskSet
from fss.collection.schema import mask_table
from fss.images.mask_codec import mask_row
from fss.saliency.quality import no_scores
from fss.saliency.student.data import load_student_data, shrink_mask
from tests.helpers.discs import noisy_collection, noisy_disc


def build_scored(folder: Path, images: int = 40) -> tuple[Collection, MaskSet]:
    """Build discs whose scores grow with their number; the last image of the first part has no mask."""
    collection, masks = noisy_collection(folder, images)
    number = 0
    for part in collection.part_names():
        rows = []
        for row in masks.read_part(part).to_pylist():
            scores = {name: (True if name.startswith("gate") else number / images) for name in no_scores()}
            _, mask = noisy_disc(number)
            rows.append(
                mask_row(row["image_id"], None, error="none")
                if row["error"]
                else mask_row(row["image_id"], mask, [1], scores=scores)
            )
            number += 1
        masks.write_part(part, mask_table(rows))
    return collection, masks


def test_accepted_masks_are_weighted_by_rank_and_others_by_zero(tmp_path: Path) -> None:
    collection, masks = build_scored(tmp_path / "c")
    ids = [name for part in collection.part_names() for name in collection.image_ids()[part]]
    masks.write_acceptance("default", {"quantile": 0.5}, ids[20:])
    data = load_student_data(masks, 64)
    assert data.images.shape == (39, 64, 64, 3) and data.targets.shape == (39, 16, 16)
    assert (data.weights[:19] == 0).all() and (np.diff(data.weights[19:]) > 0).all() and data.weights[-1] == 1
    _, mask = noisy_disc(20)
    np.testing.assert_array_equal(data.targets[19], shrink_mask(mask > 0, 64))
    assert (load_student_data(masks, 64, acceptance=None).weights[1:] > 0).all()


def test_a_limit_selects_the_same_whole_parts_each_time(tmp_path: Path) -> None:
    _, masks = build_scored(tmp_path / "c")
    first, again = (load_student_data(masks, 64, acceptance=None, most=16, seed=1) for _ in range(2))
    assert len(first.images) in (15, 16)
    np.testing.assert_array_equal(first.images, again.images)


def test_unusable_mask_sets_are_rejected(tmp_path: Path) -> None:
    collection, masks = build_scored(tmp_path / "c")
    with pytest.raises(ValueError, match="acceptance"):
        load_student_data(masks, 64, acceptance="nowhere")
    masks.write_acceptance("few", {}, collection.image_ids()["part-00000"][:3])
    with pytest.raises(ValueError, match="hundreds"):
        load_student_data(masks, 64, acceptance="few")
    (Path(collection.uri) / "masks/saliency/part-00002.parquet").unlink()
    with pytest.raises(ValueError, match="lacks 1 of 5 parts"):
        load_student_data(masks, 64)
