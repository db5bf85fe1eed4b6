"""The class bank and its presence gate."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fss.images.resize import image_canvas, mask_canvas
from fss.models import FewShotSegmenter
from fss.relabel import RelabelConfig
from fss.relabel.class_bank import ClassBank, bank_reader, best_threshold, build_bank, shot_name
from fss.relabel.relabeller import RelabelInput, Relabeller
from fss.relabel.supports import Shot
from fss.relabel.votes import Voter
from tests.helpers.discs import coloured_collection, coloured_disc

CONFIG = RelabelConfig(supports="bank", shots=1, sets=2, foreground=0.5, background=0.5)
PICTURES = {colour + 1: [f"{n:02d}" for n in range(colour, 18, 3)] for colour in range(3)}


def read(name: str) -> Shot:
    rgb, mask = coloured_disc(int(name.split(":")[1]))
    return Shot(image_canvas(rgb, 96), mask_canvas(mask, 96))


@pytest.fixture(scope="module")
def bank(segmenter: FewShotSegmenter) -> ClassBank:
    return build_bank(segmenter, PICTURES, read, CONFIG)


def test_shots_are_dealt_to_sets_and_calibration_uses_others(bank: ClassBank) -> None:
    assert sorted(bank.sets) == [1, 2, 3] and bank.prototypes.shape[0] == 3
    for class_id, sets in bank.sets.items():
        assert [len(shots) for shots in sets] == [1, 1]
        names = {name for shots in sets for name in shots}
        assert len(names) == 2 and names <= {shot_name(class_id, n) for n in PICTURES[class_id]}
    assert torch.allclose(bank.prototypes.norm(dim=1), torch.ones(3))
    assert -1 < bank.threshold < 1


def test_the_threshold_is_the_best_balance() -> None:
    assert best_threshold([0.9, 0.8], [0.1, 0.2, 0.3]) == pytest.approx(0.55)
    assert best_threshold([0.9, 0.8, 0.2], [0.1, 0.3, 0.35]) == pytest.approx((0.8 + 0.35) / 2)
    assert best_threshold([0.9, 0.8], []) == 0.8


def test_only_classes_above_the_threshold_are_segmented(bank: ClassBank, segmenter: FewShotSegmenter) -> None:
    canvases = np.stack([read(f"1:{n}").rgb for n in (0, 1, 2)])
    similarity = bank.similarity(segmenter, canvases)
    assert similarity.shape == (3, 3)
    gate = ClassBank(bank.prototypes, float(similarity.max()), bank.sets)
    present = gate.present(segmenter, canvases)
    assert [len(ids) for ids in present] == (similarity.max(1).values == similarity.max()).int().tolist()
    relabeller = Relabeller(CONFIG, Voter(segmenter, read), bank=gate)
    batch = [RelabelInput(image_id=str(n), shape=(60, 72), rgb=canvas) for n, canvas in enumerate(canvases)]
    outcomes = relabeller.collect_votes(batch)
    assert [sorted(vote_set.votes) for vote_set in outcomes if not isinstance(vote_set, str)] == present
    assert all(votes.shape == (2, 2, 96, 96) for vote_set in outcomes for votes in vote_set.votes.values())  # type: ignore


def test_shots_are_read_by_class(tmp_path: Path) -> None:
    collection = coloured_collection(tmp_path / "c")
    masks = collection.mask_set("saliency")
    image_id = collection.image_ids()["part-00000"][1]
    shot = bank_reader(masks, 96)(shot_name(1, image_id))
    assert (shot.mask == mask_canvas(coloured_disc(1)[1], 96)).all() and shot.rgb.shape == (96, 96, 3)
    assert not bank_reader(masks, 96)(shot_name(2, image_id)).mask.any()


def test_a_class_with_too_few_pictures_is_named(segmenter: FewShotSegmenter) -> None:
    with pytest.raises(ValueError, match=r"3 labelled images.*class 4 has 2"):
        build_bank(segmenter, PICTURES | {4: ["00", "01"]}, read, CONFIG)
    with pytest.raises(ValueError, match="no class was given"):
        build_bank(segmenter, {}, read, CONFIG)
