"""Exported programs answer as the segmenter does, without it."""

import pytest
import torch

from fss import export
from fss.export import export_segmenter
from fss.models import create_segmenter


def make(learner, masking):
    return create_segmenter(learner=learner, masking=masking, backbone="resnet18", image_size=96, frozen=True)


@pytest.mark.parametrize(
    ("learner", "masking"),
    [
        ("masksplit", "none"),
        ("hsnet", "hybrid"),
        pytest.param("asnet", "hybrid", marks=pytest.mark.slow),
        pytest.param("vat", "feature", marks=pytest.mark.slow),
    ],
)
def test_every_learner_can_be_exported(learner, masking, tmp_path):
    segmenter, path = make(learner, masking), tmp_path / "segmenter.pt2"
    assert export_segmenter(segmenter, path, size=(96, 96), shots=2) < 1e-4
    query, supports, masks = torch.randn(1, 3, 96, 96), torch.randn(1, 2, 3, 96, 96), torch.ones(1, 2, 96, 96)
    program = torch.export.load(path).module()
    with torch.no_grad():
        expected = segmenter(query, supports, masks)
        torch.testing.assert_close(program(query, supports, masks), expected, rtol=1e-3, atol=1e-4)


def test_a_program_that_differs_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="nothing was kept"):
        export_segmenter(make("masksplit", "none"), tmp_path / "segmenter.pt2", size=(96, 96))
    assert not list(tmp_path.iterdir())


def test_images_too_small_are_refused(tmp_path):
    with pytest.raises(ValueError, match="too small"):
        export_segmenter(make("hsnet", "feature"), tmp_path / "segmenter.pt2", size=(40, 96))
