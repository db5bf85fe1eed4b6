"""Training by class episodes on real Ray Train: chosen classes, validation by plan, killed and resumed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fss.collection import Collection
from fss.models import SegmenterConfig, load_checkpoint
from fss.models.checkpoint import read_description
from fss.training.few_shot.config import ClassesConfig, OptimizerConfig, StreamConfig
from pipelines import train
from pipelines.runtime.config import ScaleConfig, TrackingConfig
from pipelines.runtime.result import JobResult
from pipelines.training.config import TrainJobConfig, work_hash
from pipelines.training.data import TrainingData
from pipelines.training.presets import class_training

STEPS, EVERY = 5, 2
Paint = Callable[..., str]
Kill = Callable[[TrainJobConfig, Path], Path]


@pytest.fixture(scope="module")
def config(paint: Paint, tmp_path_factory: pytest.TempPathFactory, tracking: TrackingConfig) -> TrainJobConfig:
    home = tmp_path_factory.mktemp("train")
    return replace(
        class_training(),
        collection=paint(home / "collection", count=60, labelled=True),
        output=str(home / "models"),
        classes=ClassesConfig(train=("base",), val=("novel",), val_episodes=12, episodes=12),
        segmenter=SegmenterConfig(
            learner="hsnet", masking="hybrid", backbone="timm:test_resnet.r160_in1k", image_size=80, frozen=True
        ),
        stream=StreamConfig(batch_size=4, lanes=2, cache_folder=home / "cache"),
        optimizer=OptimizerConfig(steps=STEPS, learning_rate=1e-3, ema=0.5),
        checkpoint_every=EVERY,
        log_every=1,
        log_model=False,
        tracking=tracking,
    )


@pytest.fixture(scope="module")
def uninterrupted(ray_local: None, config: TrainJobConfig) -> JobResult:
    return train.run(replace(config, name="uninterrupted", scale=ScaleConfig(workers=2)))


def history(summary: JobResult, tracking: TrackingConfig, metric: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    points = MlflowClient(tracking_uri=tracking.uri).get_metric_history(str(summary.run_id), metric)
    return sorted((point.step, point.value) for point in points)


@pytest.mark.slow
def test_keeps_the_checkpoint_of_the_best_validation(uninterrupted: JobResult, tracking: TrackingConfig) -> None:
    curves = [history(uninterrupted, tracking, f"val/miou.{name}") for name in ("averaged", "raw")]
    assert [step for step, _ in curves[0]] == [2, 4, 5]
    best = max(value for curve in curves for _, value in curve)
    assert uninterrupted.metrics == {"val_miou": pytest.approx(best)}
    described = read_description(uninterrupted.outputs["model"])["training"]
    assert described["val_miou"][described["weights"]] == pytest.approx(best)
    assert load_checkpoint(uninterrupted.outputs["model"]).config.learner == "hsnet"
    assert uninterrupted.counts["train classes"] == 10
    assert len(uninterrupted.inputs["val_plan"]) == 16, "the figure names its plan"


@pytest.mark.slow
def test_the_kept_figure_is_the_models(uninterrupted: JobResult, config: TrainJobConfig) -> None:
    import torch

    data = TrainingData.open(config)
    validator = data.validator(data.stream())
    segmenter = load_checkpoint(uninterrupted.outputs["model"]).train()
    metrics = validator.validate(segmenter, torch.device("cpu"))
    assert metrics["val_miou"] == pytest.approx(uninterrupted.metrics["val_miou"], abs=1e-4)
    assert segmenter.training, "its mode is given back"
    examples = validator.examples()
    assert examples.support_images.shape == (8, 1, 3, 80, 80)
    assert set(examples.target.unique().tolist()) <= {0, 1, 255}


@pytest.mark.slow
def test_killed_and_resumed_on_one_worker_it_trains_like_two_uninterrupted(
    uninterrupted: JobResult,
    config: TrainJobConfig,
    tracking: TrackingConfig,
    kill_after_a_checkpoint: Kill,
    tmp_path: Path,
) -> None:
    resumed = replace(config, name="resumed")
    snapshots = kill_after_a_checkpoint(resumed, tmp_path)
    summary = train.run(resumed)
    reached = [json.loads(path.read_text())["step"] for path in snapshots.glob("checkpoint_*/progress.json")]
    assert max(reached) == STEPS
    got, wanted = history(summary, tracking, "train/loss"), history(uninterrupted, tracking, "train/loss")
    assert [step for step, _ in got] == list(range(1, STEPS + 1)), "a step is missing or was logged twice"
    assert [value for _, value in got] == pytest.approx([value for _, value in wanted], rel=1e-4)


@pytest.mark.slow
def test_a_second_run_does_no_work_and_other_classes_are_another_training(
    uninterrupted: JobResult, config: TrainJobConfig
) -> None:
    assert not train.run(replace(config, name="uninterrupted")).worked
    other = replace(config, name="uninterrupted", classes=replace(config.classes, train=("base",), min_pixels=1200))
    with pytest.raises(ValueError, match="with other settings"):
        train.run(other)


def test_what_decides_the_result_is_hashed(config: TrainJobConfig) -> None:
    def key(changed: TrainJobConfig) -> str:
        return work_hash(changed, TrainingData.open(changed).hashes())

    assert key(replace(config, held_out_tasks=5, output="elsewhere")) == key(config)
    names = Collection.open(config.collection).classes
    base = tuple(names[c] for c in Collection.open(config.collection).class_splits["base"])
    assert key(replace(config, classes=replace(config.classes, train=base))) == key(config), "the same, by name"
    changes = (
        {"train": base[1:]},
        {"shots": 2},
        {"episodes": 16},
        {"val_episodes": 10},
        {"val": ()},
        {"draw": "entries"},
    )
    keys = [key(replace(config, classes=replace(config.classes, **change))) for change in changes]
    assert len({key(config), *keys}) == 1 + len(changes)


def test_mistakes_are_told_before_any_work(config: TrainJobConfig) -> None:
    with pytest.raises(ValueError, match=r"training: no class split or class of .* its splits are base, novel"):
        train.run(replace(config, classes=replace(config.classes, train=("training",))))
    with pytest.raises(ValueError, match="needs a fold; choose 0 to 3"):
        train.run(replace(config, classes=replace(config.classes, benchmark="pascal")))
    with pytest.raises(ValueError, match="99 shots need 100 images"):
        train.run(replace(config, classes=replace(config.classes, shots=99)))


def test_a_dry_run_counts_what_there_is(config: TrainJobConfig) -> None:
    metrics = train.run(replace(config, dry_run=True)).metrics
    assert metrics["train classes"] == 10
    assert 0 < metrics["train images"] <= 60
