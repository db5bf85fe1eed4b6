"""The masks of a stage: predictions of the main head, rows of a part, scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fss.collection import Collection
from fss.collection.class_map import ClassTable
from fss.images.mask_codec import decode_mask
from fss.models.semantic.network import SemanticLogits, build_semantic
from fss.training.semi_supervised.config import LabelledConfig
from fss.training.semi_supervised.mask_writer import (
    SemanticMasker,
    compare_mask_sets,
    evaluate_network,
    stability,
    write_semantic_parts,
)
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import scan_rows
from tests.helpers import scenes


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return scenes.build(tmp_path_factory.mktemp("masks") / "c", 8, 2)


class ByColour(nn.Module):
    """Says by its main head which of the scenes' colours a pixel has, by the auxiliary head something else."""

    def __init__(self, sureness: float = 1.0) -> None:
        super().__init__()
        self.colours = nn.Parameter(torch.tensor(scenes.COLOURS, dtype=torch.float32))
        self.sureness = sureness

    def forward(self, pixels: torch.Tensor) -> SemanticLogits:
        far = (pixels[:, None].float() - self.colours[None, :, :, None, None]).abs().sum(2)
        return SemanticLogits(-far * self.sureness, far)


def by_colour(sureness: float = 1.0) -> Any:
    return ByColour(sureness).eval()


def write_masks(collection: Collection, name: str, masker: SemanticMasker) -> list[dict]:
    masks = collection.create_mask_set(name, config_hash="3" * 16, provenance={})
    outcomes = dict(write_semantic_parts(collection.part_names(), masks=masks, masker=masker))
    assert all(not isinstance(outcome, Exception) for outcome in outcomes.values())
    return [row for part in collection.part_names() for row in masks.read_part(part).to_pylist()]


def test_masks_are_the_main_heads_answers_one_row_a_picture(collection: Collection) -> None:
    table, network = ClassTable(collection.classes), by_colour()
    rows = write_masks(collection, "plain", SemanticMasker(network=network, table=table))
    assert [row["image_id"] for row in rows] == [name for ids in collection.image_ids().values() for name in ids]
    assert len({row["image_id"] for row in rows}) == 8, "two files of one name are two pictures"
    for number, row in enumerate(rows):
        labels = table.to_labels(decode_mask(row["mask"]), row["classes"])
        assert (labels == scenes.scene(number)[1]).mean() > 0.95, "the auxiliary head would say nearly the opposite"
    assert rows[0]["scores"] is None and rows[0]["error"] is None


def test_pictures_of_one_name_keep_their_own_masks(collection: Collection) -> None:
    rows = write_masks(collection, "names", SemanticMasker(network=by_colour(), table=ClassTable(collection.classes)))
    uris = [uri for part in collection.part_names() for uri in collection.read_part(part, ["uri"])["uri"].to_pylist()]
    assert [uri.split("/")[1] for uri in uris[:2]] == ["0.png", "0.png"]
    assert rows[0]["mask"] != rows[1]["mask"] and rows[0]["image_id"] != rows[1]["image_id"]


def test_masks_made_at_a_smaller_size_have_the_pictures_own(collection: Collection) -> None:
    rows = write_masks(
        collection, "small", SemanticMasker(network=by_colour(), table=ClassTable(collection.classes), shrink=2)
    )
    assert {decode_mask(row["mask"]).shape for row in rows} == {(40, 56)}


def test_doubtful_pixels_are_left_out_below_the_confidence(collection: Collection) -> None:
    masker = SemanticMasker(network=by_colour(1e-4), table=ClassTable(collection.classes), confidence=0.5)
    rows = write_masks(collection, "sure", masker)
    assert all((decode_mask(row["mask"]) == 255).mean() > 0.9 for row in rows)


def test_half_precision_makes_nearly_the_same_masks(collection: Collection) -> None:
    network, table = by_colour(), ClassTable(collection.classes)
    pairs = zip(
        write_masks(collection, "whole", SemanticMasker(network=network, table=table)),
        write_masks(collection, "half", SemanticMasker(network=network, table=table, precision="bf16")),
        strict=True,
    )
    assert all((decode_mask(a["mask"]) == decode_mask(b["mask"])).mean() > 0.98 for a, b in pairs)


def test_stability_is_the_mean_of_the_earlier_masks_miou_with_the_last() -> None:
    last = np.array([[0, 0, 1, 1]], np.uint8)
    half, other = np.array([[0, 0, 0, 1]], np.uint8), np.array([[2, 2, 2, 2]], np.uint8)
    assert stability(last, [last], 3) == 1.0
    assert stability(last, [half], 3) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert stability(last, [half, other], 3) == pytest.approx((2 / 3 + 1 / 2) / 4)


def test_earlier_checkpoints_give_a_score(collection: Collection) -> None:
    network = by_colour()
    different = by_colour(-1.0)
    table = ClassTable(collection.classes)
    alike = write_masks(collection, "alike", SemanticMasker(network=network, table=table, earlier=(network, network)))
    assert [row["scores"]["checkpoint"] for row in alike] == [1.0] * 8
    apart = write_masks(collection, "apart", SemanticMasker(network=network, table=table, earlier=(different, network)))
    assert all(row["scores"]["checkpoint"] < 1 for row in apart)


def test_measures_against_the_truth(collection: Collection, tmp_path: Path) -> None:
    scenes.write_masks(collection, "right")
    scenes.write_masks(collection, "wrong", shift=1)
    table, truth = ClassTable(collection.classes), collection.mask_set("truth")
    scores = [
        compare_mask_sets(collection.mask_set(n), truth, table, collection.part_names()) for n in ("right", "wrong")
    ]
    assert [score.miou() for score in scores] == [1.0, 0.0]
    assert scores[0].counts.sum() == 2 * 40 * 56, "only where the truth is known"
    network = build_semantic(scenes.NETWORK, classes=3).train()
    confusion = evaluate_network(
        network, SemanticReader(collection, table), scan_rows(collection.mask_set("truth"), LabelledConfig()), truth
    )
    assert network.training and confusion.counts.sum() == 2 * 40 * 56


class Sided(nn.Module):
    """Is surer of class 1 on the left side of what it sees, and knows the size that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.widths: list[int] = []

    def forward(self, pixels: torch.Tensor) -> SemanticLogits:
        self.widths.append(pixels.shape[-1])
        logits = torch.zeros(len(pixels), 3, *pixels.shape[-2:])
        logits[:, 1, :, : pixels.shape[-1] // 2] = 4.0
        logits[:, 2] = 1.0
        return SemanticLogits(logits, None)


def test_masks_are_the_mean_of_a_mirrored_pass_and_of_all_sizes(collection: Collection) -> None:
    table, rgb = ClassTable(collection.classes), np.zeros((40, 56, 3), np.uint8)
    for tta, left, right, widths in (
        ("none", 1, 2, [56]),
        ("flip", 1, 1, [56, 56]),  # both sides are surely 1 in one of two passes
        ("multiscale", 1, 1, [28, 28, 42, 42, 56, 56, 84, 84, 112, 112]),
    ):
        network = Sided().eval()
        labels = SemanticMasker(network=network, table=table, tta=tta)._labels(network, rgb)  # type: ignore[arg-type]
        assert (labels[:, 3], labels[:, -3]) == (pytest.approx(left), pytest.approx(right))
        assert network.widths == widths
