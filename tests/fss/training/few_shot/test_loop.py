"""The training loop learns, resumes exactly, averages weights, and reports diverging losses."""

import math
from dataclasses import replace

import pytest
import torch
from torch.optim import lr_scheduler

from fss.collection import Collection, MaskSet
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.models import create_segmenter
from fss.training.ema import Ema
from fss.training.few_shot.config import OptimizerConfig, Schedule, StreamConfig, rate_factor
from fss.training.few_shot.held_out_score import score_held_out
from fss.training.few_shot.loop import TrainLoop
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.loop import StepReport, TrainingDivergedError
from tests.helpers.networks import TinySegmenter

CONFIG = OptimizerConfig(steps=12, learning_rate=0.01, ema=0.9)


@pytest.fixture(scope="module")
def stream(discs: tuple[Collection, MaskSet]) -> MaskSplitStream:
    config = StreamConfig(batch_size=8, lanes=4, held_out=0.1)
    augment = AugmentConfig(jitter=0, blur=0, grey=0)
    return MaskSplitStream(*discs, image_size=32, stream=config, split=SplitConfig(), augment=augment)


def train(loop: TrainLoop, steps: int) -> list[StepReport]:
    reports = []
    for report in loop.run():
        reports.append(report)
        if len(reports) == steps:
            break
    return reports


def test_training_lowers_the_loss_and_counts_epochs(stream: MaskSplitStream) -> None:
    loop = TrainLoop(TinySegmenter(), stream, OptimizerConfig(steps=40, learning_rate=0.02))
    before = score_held_out(loop.segmenter, stream)
    reports = train(loop, 40)
    after = score_held_out(loop.segmenter, stream)
    assert [report.step for report in reports] == list(range(1, 41))
    assert [report.epoch for report in reports] == [step // stream.steps_per_epoch for step in range(40)]
    assert reports[-1].loss < 0.5 * reports[0].loss
    assert after.loss < before.loss
    assert after.iou > max(before.iou, 0.3)
    assert loop.segmenter.training


def test_a_resumed_training_equals_an_uninterrupted_one(stream: MaskSplitStream) -> None:
    whole = TrainLoop(TinySegmenter(normalise=True), stream, CONFIG)
    losses = [report.loss for report in train(whole, 12)]
    first = TrainLoop(TinySegmenter(normalise=True), stream, CONFIG)
    train(first, 7)
    state = {**first.state_dict()}
    second = TrainLoop(TinySegmenter(normalise=True), stream, CONFIG)
    second.load_state_dict(state)
    assert [report.loss for report in train(second, 12)] == losses[7:]
    assert second.step == 12
    assert list(second.run()) == []
    for name, value in whole.ema.average.items():
        assert torch.equal(value, second.ema.average[name]), name


def test_a_broken_loss_names_the_step_and_the_images(stream: MaskSplitStream) -> None:
    loop = TrainLoop(TinySegmenter(), stream, CONFIG)
    train(loop, 2)
    with torch.no_grad():
        loop.parameters[0].fill_(math.nan)
    expected = next(iter(stream.batches(0, 2))).ids
    with pytest.raises(TrainingDivergedError, match=r"step 3: .*" + expected[0]):
        next(loop.run())


def test_the_gradient_is_clipped(stream: MaskSplitStream) -> None:
    loop = TrainLoop(TinySegmenter(), stream, OptimizerConfig(steps=1, clip=1e-3))
    report = next(loop.run())
    assert report.gradient_norm > 1e-3
    norm = torch.sqrt(sum((p.grad**2).sum() for p in loop.parameters if p.grad is not None))  # type: ignore[arg-type]
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("passes", [2, 3, 8])
def test_accumulated_passes_are_one_step(stream: MaskSplitStream, passes: int) -> None:
    whole = TrainLoop(TinySegmenter(), stream, CONFIG)
    cut = TrainLoop(TinySegmenter(), stream, replace(CONFIG, accumulate=passes))
    for one, other in zip(train(whole, 3), train(cut, 3), strict=True):
        assert (other.loss, other.gradient_norm) == pytest.approx((one.loss, one.gradient_norm), rel=1e-5)


def test_half_precision_learns_too_and_keeps_its_weights_whole(stream: MaskSplitStream) -> None:
    loop = TrainLoop(TinySegmenter(), stream, OptimizerConfig(steps=30, learning_rate=0.02, precision="bf16"))
    reports = train(loop, 30)
    assert reports[-1].loss < 0.6 * reports[0].loss
    assert {p.dtype for p in loop.parameters} == {torch.float32}
    full = next(TrainLoop(TinySegmenter(), stream, OptimizerConfig(steps=30)).run())
    assert reports[0].loss != full.loss, "nothing was rounded: autocast did not run"
    assert reports[0].loss == pytest.approx(full.loss, rel=0.02)


def test_schedules() -> None:
    factors = {
        name: [rate_factor(OptimizerConfig(steps=10, schedule=name), step) for step in (0, 5, 9)]
        for name in ("constant", "poly", "cosine")
    }
    assert factors["constant"] == [1, 1, 1]
    assert factors["poly"] == pytest.approx([1, 0.5**0.9, 0.1**0.9])
    assert factors["cosine"] == pytest.approx([1, 0.5, (1 + math.cos(0.9 * math.pi)) / 2])
    warm = OptimizerConfig(steps=10, warmup=4)
    assert [rate_factor(warm, step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    with pytest.raises(ValueError, match="warmup is at most steps \\(10\\), got 11"):
        OptimizerConfig(steps=10, warmup=11)


@pytest.mark.parametrize("warmup", [0, 8])
@pytest.mark.parametrize("name", ["constant", "poly", "cosine"])
def test_schedules_are_those_of_torch(name: Schedule, warmup: int) -> None:
    config = OptimizerConfig(steps=200, learning_rate=3e-3, schedule=name, warmup=warmup)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], config.learning_rate)
    decay = {
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
        "poly": lambda: lr_scheduler.PolynomialLR(optimizer, config.steps, power=0.9),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, config.steps),
    }[name]()
    schedulers = [decay]
    if warmup:
        schedulers.append(lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1))
    for step in range(config.steps):
        rate = config.learning_rate * rate_factor(config, step)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, abs=1e-12), step
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


def test_the_schedule_goes_on_after_a_resume(stream: MaskSplitStream) -> None:
    config = replace(CONFIG, schedule="cosine", warmup=3)
    whole = TrainLoop(TinySegmenter(), stream, config)
    losses = [report.loss for report in train(whole, 12)]
    first, second = (TrainLoop(TinySegmenter(), stream, config) for _ in range(2))
    train(first, 5)
    second.load_state_dict(first.state_dict())
    assert [report.loss for report in train(second, 6)] == losses[5:11]
    assert second.optimizer.param_groups[0]["lr"] == config.learning_rate * rate_factor(config, 11) > 0
    assert [report.loss for report in train(second, 1)] == losses[11:]


def test_a_training_saved_without_the_rate_at_its_start_goes_on(stream: MaskSplitStream) -> None:
    config = replace(CONFIG, schedule="poly")
    loop = TrainLoop(TinySegmenter(), stream, config)
    train(loop, 5)
    state = loop.state_dict()
    for group in state["optimizer"]["param_groups"]:
        del group["initial_lr"]
        group["lr"] = config.learning_rate * rate_factor(config, 4)
    other = TrainLoop(TinySegmenter(), stream, config)
    other.load_state_dict(state)
    assert other.optimizer.param_groups[0]["lr"] == config.learning_rate * rate_factor(config, 5)


def test_a_frozen_model_is_refused(stream: MaskSplitStream) -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        TrainLoop(TinySegmenter().requires_grad_(False), stream, CONFIG)


def test_the_moving_average_by_hand() -> None:
    model = torch.nn.BatchNorm1d(1)
    ema = Ema(model, decay=0.2)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(10.0)  # type: ignore[union-attr]
        model.num_batches_tracked.fill_(4)  # type: ignore[union-attr]
    ema.update(model)  # decay = min(0.2, 2 / 11)
    assert float(ema.average["weight"]) == pytest.approx(3 - 2 * 2 / 11)
    assert float(ema.average["running_mean"]) == pytest.approx(10 * 9 / 11)
    assert int(ema.average["num_batches_tracked"]) == 4
    with ema.applied(model):
        assert model.weight.item() == pytest.approx(3 - 2 * 2 / 11)
    assert model.weight.item() == 3.0
    for _ in range(50):
        ema.update(model)
    assert float(ema.average["weight"]) == pytest.approx(3.0)


def test_frozen_parameters_are_not_averaged() -> None:
    assert "frozen" not in Ema(TinySegmenter(), 0.9).average


def test_no_held_out_task_is_an_error(stream: MaskSplitStream) -> None:
    with pytest.raises(ValueError, match="no held-out"):
        score_held_out(TinySegmenter(), stream, limit=0)


def test_a_state_holds_only_what_training_changes(stream: MaskSplitStream) -> None:
    network = create_segmenter(learner="masksplit", backbone="timm:test_resnet.r160_in1k", frozen=True, width=32)
    loop = TrainLoop(network, stream, CONFIG)
    state = loop.state_dict()
    assert state["model"].keys() == state["ema"]["average"].keys()
    assert all(name.startswith("learner.") for name in state["model"])


def test_a_vat_training_of_an_older_version_goes_on(stream: MaskSplitStream) -> None:
    """It held the frozen backbone, and listed the parameters that no loss reaches."""
    network = create_segmenter(learner="vat", backbone="timm:test_resnet.r160_in1k", frozen=True, image_size=80)
    unused = [f"learner.{name}" for name in network.learner.unused_parameters()]
    trained = [name for name, p in network.named_parameters() if p.requires_grad or name in unused]
    tensors = dict(network.named_parameters())
    optimizer = torch.optim.Adam([tensors[name] for name in trained])
    for name in set(trained) - set(unused):
        tensors[name].grad = torch.full_like(tensors[name], trained.index(name))
    optimizer.step()
    average = {name: torch.ones_like(value) for name, value in network.state_dict().items()}
    saved = {"step": 4, "model": network.state_dict(), "optimizer": optimizer.state_dict()}
    saved["ema"] = {"updates": 4, "average": average}
    loop = TrainLoop(network, stream, CONFIG)
    loop.load_state_dict(saved)
    assert loop.step == 4
    assert len(loop.parameters) == len(trained) - len(unused)
    for parameter, name in zip(loop.parameters, [name for name in trained if name not in unused], strict=True):
        assert float(loop.optimizer.state[parameter]["exp_avg"].flatten()[0]) == pytest.approx(
            0.1 * trained.index(name)
        )
    del saved["model"]["learner.decoder.0.weight"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"another network: it lacks \['learner.decoder.0.weight'\]"):
        loop.load_state_dict(saved)
