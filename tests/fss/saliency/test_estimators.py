"""Every estimator by its settings: one contract, names that follow the weights' content, mistakes told."""

from pathlib import Path

import numpy as np
import pytest

from fss.collection.schema import GATES, SCORES
from fss.saliency import SaliencyConfig, SaliencyEstimator
from fss.saliency.config import StudentConfig, StudentSettings, ViTSettings
from fss.saliency.estimators import EstimatorSettings, create_estimator, identity
from fss.saliency.student.network import SaliencyStudent, StudentEstimator, load_student, save_student
from fss.saliency.vit import ViTEstimator
from tests.helpers.discs import disc

SMALL = StudentConfig(backbone="mobilenet_v2", image_size=64, width=16)
TINY = ViTSettings(model="vit_tiny_patch16_224", weights=None, image_size=64)


def saved(path: Path, seed: int = 0) -> StudentSettings:
    student = SaliencyStudent(SMALL)
    student.restart(seed)
    save_student(student, path, metadata={"made": "for a test"})
    return StudentSettings(path=str(path))


@pytest.mark.parametrize("kind", ["classical", "student", "vit"])
def test_the_type_of_the_settings_chooses_and_all_keep_the_contract(kind: str, tmp_path: Path) -> None:
    settings: dict[str, EstimatorSettings] = {
        "classical": SaliencyConfig(),
        "student": saved(tmp_path / "s.safetensors"),
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


def test_a_student_is_named_by_its_weights_not_by_its_place(tmp_path: Path) -> None:
    first, moved, other = (saved(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert identity(first) == identity(moved) != identity(other)
    assert identity(SaliencyConfig()) != identity(SaliencyConfig(segments=120))
    assert identity(TINY)["weights"] is None


def test_a_student_comes_back_in_its_shape(tmp_path: Path) -> None:
    student = load_student(saved(tmp_path / "s", seed=3).path)
    assert student.config == SMALL and not student.training
    again = SaliencyStudent(SMALL)
    again.restart(3)
    for name, value in again.state_dict().items():
        assert (student.state_dict()[name] == value).all(), name


def test_mistakes_are_told(tmp_path: Path) -> None:
    (tmp_path / "no-student").write_bytes(b"something else")
    with pytest.raises(ValueError, match="holds no student"):
        create_estimator(StudentSettings(path=str(tmp_path / "no-student")))
    with pytest.raises(ValueError, match="no student at"):
        create_estimator(StudentSettings(path=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="no student file"):
        identity(StudentSettings(path=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="CPU"):
        create_estimator(SaliencyConfig(), device="cuda")
