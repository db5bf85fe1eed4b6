"""Exported programs give the logits of the segmenter, without this package."""

import sys

import pytest
import torch

from fss.inference import export
from fss.inference.export import export_segmenter
from fss.models import create_segmenter
from fss.models.masking import mask_features


def make(learner, masking):
    network = {"density_prior": True} if learner == "masksplit with density" else {"learner": learner}
    return create_segmenter(**network, masking=masking, backbone="resnet18", image_size=96, frozen=True)


@pytest.mark.parametrize(
    ("learner", "masking"),
    [
        ("masksplit", "none"),
        ("density", "none"),
        pytest.param("masksplit with density", "none", marks=pytest.mark.slow),
        pytest.param("hsnet", "hybrid", marks=pytest.mark.slow),
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("learner", "masking"),
    [
        ("masksplit", "none"),
        ("density", "none"),
        ("masksplit with density", "none"),
        ("hsnet", "hybrid"),
        ("asnet", "hybrid"),
    ],
)
def test_onnx_answers_the_same_in_another_runtime(learner, masking, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    segmenter, path = make(learner, masking), tmp_path / "segmenter.onnx"
    assert export_segmenter(segmenter, path, size=(96, 96), shots=2, form="onnx") < 1e-3
    assert [file.name for file in tmp_path.iterdir()] == ["segmenter.onnx"], "weights belong into the file"
    inputs = torch.randn(1, 3, 96, 96), torch.randn(1, 2, 3, 96, 96), torch.ones(1, 2, 96, 96)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    assert names == list(export.INPUTS)
    (logits,) = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), segmenter(*inputs), rtol=1e-2, atol=1e-3)


def test_other_forms_and_missing_packages_are_reported(tmp_path, monkeypatch):
    segmenter = make("masksplit", "none")
    with pytest.raises(ValueError, match="form must be pt2 or onnx, got 'tflite'"):
        export_segmenter(segmenter, tmp_path / "x", size=(96, 96), form="tflite")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"pip install 'fss-masks\[onnx\]'"):
        export_segmenter(segmenter, tmp_path / "x", size=(96, 96), form="onnx")


def test_a_program_that_differs_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(export._TOLERANCE, "pt2", -1.0)
    (tmp_path / "segmenter.pt2").write_text("the program of before")
    with pytest.raises(ValueError, match="Nothing was written"):
        export_segmenter(make("masksplit", "none"), tmp_path / "segmenter.pt2", size=(96, 96))
    assert [file.name for file in tmp_path.iterdir()] == ["segmenter.pt2"]
    assert (tmp_path / "segmenter.pt2").read_text() == "the program of before"


def test_images_too_small_are_refused(tmp_path):
    with pytest.raises(ValueError, match="too small"):
        export_segmenter(make("hsnet", "feature"), tmp_path / "segmenter.pt2", size=(40, 96))


@pytest.mark.parametrize(("side", "grid"), [(400, 50), (473, 60), (96, 12), (200, 7)])
def test_an_exported_mask_has_the_weights_of_a_resized_one(side, grid, monkeypatch):
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    masks = torch.stack([y**2 + x**2 < 0.36, x < 0, (y - x).abs() < 0.01]).float()
    ones = torch.ones(3, 1, grid, grid)
    resized = mask_features(ones, masks)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    exported = mask_features(ones, masks)
    assert torch.equal(exported == 0, resized == 0), "a weight of 1e-5 is not 0"
    torch.testing.assert_close(exported, resized, rtol=0, atol=1e-6)
