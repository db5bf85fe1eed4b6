"""Training of the student: it learns its targets, corrects noisy ones, is reproducible, and resumes exactly."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent
from fss.saliency.config import StudentTrainingConfig
from fss.saliency.student.data import StudentData
from fss.saliency.student.targets import next_targets
from fss.training import student as training
from fss.training.student import StudentLoop, f_loss, train_student

SMALL = StudentConfig(backbone="mobilenet_v2", image_size=64, width=64)


def blobs(count: int = 24, *, flipped: float = 0.0) -> tuple[StudentData, np.ndarray]:
    """Return bright squares on dark noise with their truth; ``flipped`` is the share of wrong pixels in the targets."""
    rng = np.random.Generator(np.random.Philox(key=3))
    images = rng.integers(20, 60, (count, 64, 64, 3), dtype=np.uint8)
    truth = np.zeros((count, 16, 16), bool)
    for k in range(count):
        y, x = rng.integers(1, 8, 2)
        truth[k, y : y + 7, x : x + 7] = True
        images[k][cv2.resize(truth[k].astype(np.uint8), (64, 64), interpolation=cv2.INTER_NEAREST) > 0] += 170
    noisy = truth ^ (rng.random(truth.shape) < flipped)
    return StudentData(images=images, targets=noisy.astype(np.float32), weights=np.ones(count, np.float32)), truth


def iou(maps: np.ndarray, truth: np.ndarray) -> float:
    masks = maps > 0.5
    return float((masks & truth).sum() / (masks | truth).sum())


@pytest.mark.parametrize("frozen", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_rounds_correct_noisy_targets(frozen: bool) -> None:
    data, truth = blobs(flipped=0.12)
    student = SaliencyStudent(StudentConfig(backbone="mobilenet_v2", image_size=64, width=64, frozen=frozen))
    config = StudentTrainingConfig(
        rounds=2, epochs=12, warm_up=4, patience=12, batch_size=4, learning_rate=5e-3, least_gain=-1
    )
    reports: list[dict[str, float]] = []
    result = train_student(student, data, config, report=reports.append)
    assert iou(result.predictions, truth) > iou(data.targets, truth)
    assert len(result.rounds) == 2 and len(reports) == len(result.agreement) == sum(result.rounds)
    assert reports[11]["loss"] < reports[0]["loss"]


def test_the_same_seed_gives_the_same_student() -> None:
    data, _ = blobs()
    config = StudentTrainingConfig(rounds=1, epochs=3, warm_up=1, batch_size=8)
    first, second, half = SaliencyStudent(SMALL), SaliencyStudent(SMALL), SaliencyStudent(SMALL)
    a, b = train_student(first, data, config), train_student(second, data, config)
    assert a.agreement == b.agreement
    assert torch.equal(first.decoder.head.weight, second.decoder.head.weight)
    c = train_student(half, data, config, precision="bf16")
    assert half.decoder.head.weight.dtype == torch.float32
    assert not torch.equal(first.decoder.head.weight, half.decoder.head.weight)
    assert np.abs(a.predictions - c.predictions).mean() < 0.05


@pytest.mark.parametrize(("frozen", "stops"), [(True, (1, 6, 8)), (False, (7,))])  # in an epoch of either round, ended
def test_a_stopped_training_goes_on_as_if_it_had_not_been_stopped(
    frozen: bool, stops: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, truth = blobs(12, flipped=0.12)
    weights = np.linspace(0.5, 1, len(truth), dtype=np.float32)
    monkeypatch.setattr(training, "next_targets", lambda images, views, share: (truth.astype(np.float32), weights))
    config = StudentTrainingConfig(rounds=2, epochs=2, warm_up=0, batch_size=6, learning_rate=5e-3, least_gain=-1)

    def loop() -> StudentLoop:
        return StudentLoop(SaliencyStudent(replace(SMALL, width=16, frozen=frozen)), data, config)

    whole, steps = loop(), []
    for report in whole.run():
        steps.append((report.step, report.loss, whole.epoch_ended))
        torch.save(whole.state_dict(), tmp_path / f"{report.step}.pt")
    assert [ended for *_, ended in steps] == [False, True] * 4 and whole.result.rounds == [2, 2]
    for stop in stops:
        resumed = loop()
        resumed.load_state_dict(torch.load(tmp_path / f"{stop}.pt", weights_only=True))
        assert [(report.step, report.loss, resumed.epoch_ended) for report in resumed.run()] == steps[stop:]
        assert resumed.result.agreement == whole.result.agreement
        assert np.array_equal(resumed.result.predictions, whole.result.predictions)
        for name, value in whole.student.state_dict().items():
            assert torch.equal(resumed.student.state_dict()[name], value), (stop, name)


def test_a_round_stops_when_agreement_stalls() -> None:
    data, _ = blobs()
    config = StudentTrainingConfig(rounds=1, epochs=9, warm_up=0, patience=2, learning_rate=0.0)
    assert train_student(SaliencyStudent(SMALL), data, config).rounds == [3]


def test_masks_of_weight_zero_are_not_trained_on() -> None:
    data, truth = blobs()
    wrong = data.targets.copy()
    wrong[::2] = 1 - wrong[::2]
    weights = np.ones(len(wrong), np.float32)
    weights[::2] = 0
    config = StudentTrainingConfig(rounds=1, epochs=12, warm_up=8, batch_size=4, learning_rate=5e-3, patience=12)
    trusted = StudentData(images=data.images, targets=wrong, weights=weights)
    result = train_student(SaliencyStudent(SMALL), trusted, config)
    assert iou(result.predictions, truth) > 0.5


def test_f_loss_is_zero_for_the_target_and_one_for_its_opposite() -> None:
    target = torch.zeros(2, 4, 4)
    target[:, :2] = 1
    torch.testing.assert_close(f_loss(target, target, beta2=1.0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(f_loss(1 - target, target, beta2=1.0), torch.ones(2), atol=1e-4, rtol=0)
    half = f_loss(torch.full_like(target, 0.5), target, beta2=1.0)
    torch.testing.assert_close(half, torch.full((2,), 0.5), atol=1e-4, rtol=0)


def test_inconsistent_data_is_rejected() -> None:
    data, _ = blobs()
    with pytest.raises(ValueError, match="targets"):
        StudentData(images=data.images, targets=data.targets[:, :8], weights=data.weights)
    with pytest.raises(ValueError, match="side"):
        train_student(SaliencyStudent(StudentConfig(image_size=96, width=16)), data, StudentTrainingConfig())
    with pytest.raises(ValueError, match="warm_up"):
        train_student(SaliencyStudent(SMALL), data, StudentTrainingConfig(epochs=2, warm_up=2))


def test_rounds_stop_when_agreement_stalls() -> None:
    data, _ = blobs()
    config = StudentTrainingConfig(rounds=4, epochs=2, warm_up=0, batch_size=4, learning_rate=5e-3, least_gain=1.0)
    assert len(train_student(SaliencyStudent(SMALL), data, config).rounds) == 2


def test_next_targets_weight_the_best_masks_that_pass_the_gates() -> None:
    data, truth = blobs()
    views = np.repeat(truth[:, None].astype(np.float32), 2, axis=1)
    views[0] = 0  # empty prediction
    views[1] = 1  # full prediction
    views[2:12, 1] = np.roll(views[2:12, 1], 3, axis=1)  # the mirror image disagrees
    targets, weights = next_targets(data.images, views, share=0.5)
    assert iou(targets[12:], truth[12:]) > 0.8
    assert (weights[:2] == 0).all()
    assert (weights[12:] > 0).mean() > (weights[2:12] > 0).mean()
    assert (next_targets(data.images, views, share=1.0)[1][2:] > 0).sum() > (weights > 0).sum()
