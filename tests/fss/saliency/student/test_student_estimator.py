"""The student network, its estimator and its files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fss.collection.schema import GATES, SCORES
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent, load_student, save_student
from fss.saliency.student.estimator import StudentEstimator
from tests.helpers.discs import disc

SMALL = StudentConfig(backbone="mobilenet_v2", image_size=64, width=16)


def test_logits_have_a_quarter_of_the_size() -> None:
    assert SaliencyStudent(SMALL)(torch.zeros(2, 3, 64, 64)).shape == (2, 16, 16)


def test_only_an_unfrozen_backbone_has_gradients() -> None:
    frozen = SaliencyStudent(SMALL)
    frozen(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is None for p in frozen.backbone.parameters())
    assert all(p.grad is not None for p in frozen.decoder.parameters())
    trainable = SaliencyStudent(StudentConfig(backbone="mobilenet_v2", image_size=64, width=16, frozen=False))
    trainable(torch.randn(2, 3, 64, 64)).sum().backward()
    assert any(p.grad is not None for p in trainable.backbone.parameters())


def test_weights_depend_on_the_seed_and_restart_replaces_them() -> None:
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    first, second = SaliencyStudent(SMALL), SaliencyStudent(SMALL)
    assert torch.equal(torch.rand(1), before), "the global generator is unchanged"
    assert torch.equal(first.decoder.head.weight, second.decoder.head.weight)
    second.restart(1)
    assert not torch.equal(first.decoder.head.weight, second.decoder.head.weight)


def test_a_saved_student_gives_the_same_result(tmp_path: Path) -> None:
    student = SaliencyStudent(SMALL)
    save_student(student, tmp_path / "student.safetensors", metadata={"source": "test"})
    other = load_student(tmp_path / "student.safetensors")
    rgb, _ = disc()
    first, second = StudentEstimator(student).estimate(rgb), StudentEstimator(other).estimate(rgb)
    assert np.array_equal(first.mask, second.mask)
    assert set(first.scores) == {*SCORES, *GATES}
    assert first.mask.shape == first.soft.shape == rgb.shape[:2]


def test_invalid_sizes_and_images_are_rejected() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        SaliencyStudent(StudentConfig(image_size=100))
    with pytest.raises(ValueError, match="decode the picture"):
        StudentEstimator(SaliencyStudent(SMALL)).estimate(np.zeros((4, 4), np.uint8))
