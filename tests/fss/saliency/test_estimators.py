"""Estimators from their settings: the protocol, identities by the content of weights, and invalid settings."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fss.collection.schema import GATES, SCORES
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent, load_student, save_student
from fss.saliency import SaliencyConfig, SaliencyEstimator
from fss.saliency.config import StudentSettings, ViTSettings
from fss.saliency.estimators import EstimatorSettings, create_estimator, identity
from fss.saliency.student.estimator import StudentEstimator
from fss.saliency.vit import ViTEstimator
from tests.helpers.discs import disc
from tests.helpers.machine import needs_bfloat16

SMALL = StudentConfig(backbone="mobilenet_v2", image_size=64, width=16)
TINY = ViTSettings(model="vit_tiny_patch16_224", weights=None, image_size=64)


def save_random_student(path: Path, seed: int = 0) -> StudentSettings:
    student = SaliencyStudent(SMALL)
    student.restart(seed)
    save_student(student, path, metadata={"source": "test"})
    return StudentSettings(path=str(path))


@pytest.mark.parametrize("kind", ["classical", "student", "vit"])
def test_the_type_of_the_settings_selects_an_estimator(kind: str, tmp_path: Path) -> None:
    settings: dict[str, EstimatorSettings] = {
        "classical": SaliencyConfig(),
        "student": save_random_student(tmp_path / "s.safetensors"),
        "vit": TINY,
    }
    estimator = create_estimator(settings[kind])
    expected = {"classical": SaliencyEstimator, "student": StudentEstimator, "vit": ViTEstimator}
    assert isinstance(estimator, expected[kind])
    rgb, _ = disc()
    result = estimator.estimate(rgb, image_id="one")
    assert result.mask.shape == result.soft.shape == rgb.shape[:2]
    assert result.mask.dtype == np.uint8 and result.mask.max() <= 1
    assert set(result.scores) == {*SCORES, *GATES}


@needs_bfloat16
@pytest.mark.parametrize("kind", ["student", "vit"])
def test_half_precision_gives_nearly_the_same_map_and_another_identity(kind: str, tmp_path: Path) -> None:
    settings = TINY if kind == "vit" else save_random_student(tmp_path / "s.safetensors")
    rgb, _ = disc()
    torch.manual_seed(0)
    whole = create_estimator(settings)
    assert not torch.backends.cudnn.allow_tf32
    torch.manual_seed(0)
    half = create_estimator(settings, precision="bf16")
    assert torch.backends.cudnn.allow_tf32
    maps = [estimator.estimate(rgb).soft.astype(float) for estimator in (whole, half)]
    assert 0 < np.abs(maps[0] - maps[1]).mean() < 0.05 * 255


def test_the_identity_of_a_network_depends_on_its_precision() -> None:
    assert identity(TINY) == identity(TINY, "fp32") != identity(TINY, "bf16") != identity(TINY, "tf32")


def test_the_identity_of_a_student_depends_on_its_weights_not_its_path(tmp_path: Path) -> None:
    first, moved, other = (save_random_student(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert identity(first) == identity(moved) != identity(other)
    assert identity(SaliencyConfig()) != identity(SaliencyConfig(segments=120))
    assert identity(TINY)["weights"] is None


def test_a_loaded_student_has_the_saved_configuration_and_weights(tmp_path: Path) -> None:
    student = load_student(save_random_student(tmp_path / "s", seed=3).path)
    assert student.config == SMALL and not student.training
    again = SaliencyStudent(SMALL)
    again.restart(3)
    for name, value in again.state_dict().items():
        assert (student.state_dict()[name] == value).all(), name


def test_invalid_settings_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "no-student").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"no student at .*is text"):
        create_estimator(StudentSettings(path=str(tmp_path / "no-student")))
    with pytest.raises(ValueError, match="no student at"):
        create_estimator(StudentSettings(path=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="cannot read the student file"):
        identity(StudentSettings(path=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="CPU"):
        create_estimator(SaliencyConfig(), device="cuda")
