"""Both kinds of episodes train and judge every network, without Ray."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from fss.collection import ingest_local
from fss.collection.sources import SourceConfig
from fss.models import FewShotSegmenter, SegmenterConfig, load_checkpoint, save_checkpoint
from fss.models.config import TRAINING_FREE
from fss.models.default_calibrations import default_calibration
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent
from fss.training.few_shot.config import HELD_OUT_IOU, VAL_MIOU, ClassesConfig, OptimizerConfig, StreamConfig
from fss.training.few_shot.loop import TrainLoop
from pipelines.training.calibration import calibrate
from pipelines.training.config import TrainJobConfig
from pipelines.training.data import TrainingData
from pipelines.training.presets import PRESETS
from tests.helpers.dataset_layouts import write_voc

Paint = Callable[..., str]
LEARNERS = sorted({*get_args(SegmenterConfig.__annotations__["learner"])} - {*TRAINING_FREE})


@pytest.fixture(scope="module")
def collection(paint: Paint, tmp_path_factory: pytest.TempPathFactory) -> str:
    return paint(tmp_path_factory.mktemp("data") / "collection", count=60, labelled=True)


def config(collection: str, **settings: Any) -> TrainJobConfig:
    return TrainJobConfig(
        collection=collection,
        output="nowhere",
        mask_set="truth",
        acceptance=None,
        stream=StreamConfig(batch_size=2, lanes=2, held_out=0.1),
        classes=ClassesConfig(train=("base",), val=("novel",), val_episodes=6),
        held_out_tasks=4,
        **settings,
    )


def hashes(settings: TrainJobConfig) -> dict[str, str]:
    return TrainingData.open(settings).hashes()


def test_without_a_held_out_picture_no_training_starts(collection: str) -> None:
    """It would end at its first checkpoint."""
    settings = config(collection)
    with pytest.raises(ValueError, match="held_out is 0, but pictures that are held out choose the checkpoint"):
        replace(settings, stream=StreamConfig(batch_size=2, lanes=2, held_out=0))
    data = TrainingData.open(settings)
    (source,) = data.sources
    assert source.rows is not None
    rows = replace(source.rows, counts=source.rows.counts | {"held_out": 0})
    with pytest.raises(ValueError, match="no picture can be held out to choose the checkpoint by"):
        replace(data, sources=(replace(source, rows=rows),)).counts()


@pytest.mark.parametrize("episodes", ["split", "classes"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_every_network_learns_from_both_kinds_of_episodes(collection: str, learner: Any, episodes: Any) -> None:
    masking = "none" if learner in ("masksplit", "asnet") else "hybrid"
    backbone = "resnet18" if learner == "vat" else "timm:test_resnet.r160_in1k"
    network = SegmenterConfig(learner=learner, masking=masking, backbone=backbone, image_size=96, frozen=True, width=32)
    settings = config(collection, episodes=episodes, segmenter=network)
    data = TrainingData.open(settings)
    stream = data.stream()
    loop = TrainLoop(FewShotSegmenter.from_config(network), stream, OptimizerConfig(steps=1, learning_rate=1e-3))
    before = [parameter.detach().clone() for parameter in loop.parameters]
    (report,) = loop.run()
    assert 0 < report.loss < 5
    assert any(not torch.equal(old, new) for old, new in zip(before, loop.parameters, strict=True))
    validator = data.validator(stream)
    assert validator.score == settings.score == (HELD_OUT_IOU if episodes == "split" else VAL_MIOU)
    assert 0 <= validator.validate(loop.segmenter, loop.device)[validator.score] <= 1
    assert loop.segmenter.training


@pytest.mark.parametrize(("joined", "episodes"), [(True, "split"), (True, "classes"), (False, "split")])
def test_a_joined_model_keeps_the_librarys_calibration_where_tasks_show_one_photograph_twice(
    collection: str, joined: bool, episodes: Any, tmp_path: Path
) -> None:
    network = SegmenterConfig(backbone="mobilenet_v2", image_size=96, width=32, frozen=True, density_prior=joined)
    settings = config(collection, episodes=episodes, segmenter=network)
    settings = replace(settings, held_out_tasks=24, classes=replace(settings.classes, val_episodes=24))
    prior = SaliencyStudent(StudentConfig(image_size=64, width=16)) if joined else None
    save_checkpoint(FewShotSegmenter.from_config(network, prior=prior), tmp_path)
    library = default_calibration(replace(network, density_prior=True), prior=True)
    source = calibrate(str(tmp_path), TrainingData.open(settings), device="cpu")
    calibration = load_checkpoint(tmp_path).calibration
    assert calibration.source == source
    assert (calibration == library) == (joined and episodes == "split")
    assert ("of the training" in source) == (joined and episodes == "classes")
    assert library.threshold > 0


def test_a_learner_without_training_is_refused(collection: str) -> None:
    with pytest.raises(ValueError, match="density, which has nothing to train; evaluate it with python -m"):
        config(collection, segmenter=SegmenterConfig(learner="density"))


def test_only_what_is_used_is_hashed(collection: str) -> None:
    split = config(collection)
    assert set(hashes(split)) == {"collection", "mask_set"}
    classes = hashes(replace(split, episodes="classes"))
    assert set(classes) == {"collection", "mask_set", "train_classes", "val_plan", "val_mask_set"}
    fewer = replace(split, episodes="classes", classes=replace(split.classes, min_pixels=1500))
    assert hashes(fewer)["train_classes"] != classes["train_classes"]


def test_the_published_training_of_a_pascal_fold(tmp_path: Path) -> None:
    write_voc(tmp_path / "data", count=200, val=range(80), spread=True)
    places = {}
    for subset in ("trainaug", "val"):
        source = SourceConfig(kind="voc", path=str(tmp_path / "data"), subset=subset)
        places[subset] = ingest_local(source, str(tmp_path / subset)).uri
    preset: TrainJobConfig = PRESETS["hsnet-pascal"]()
    settings = replace(
        preset,
        collection=places["trainaug"],
        output="nowhere",
        classes=replace(preset.classes, fold=2, val_collection=places["val"], val_episodes=10),
        segmenter=replace(preset.segmenter, image_size=64),
    )
    data = TrainingData.open(settings)
    stream = data.stream()
    assert (stream.counts["train classes"], settings.stream.batch_size) == (15, 20)
    batch = next(iter(stream.batches(0)))
    assert batch.query.shape == (20, 3, 64, 64)
    assert len(data.validator(stream).examples()) == 8
    assert hashes(settings) != hashes(replace(settings, classes=replace(settings.classes, fold=1)))
    smaller = TrainingData.open(replace(settings, stream=replace(settings.stream, training_size=48)))
    stream = smaller.stream()
    assert next(iter(stream.batches(0))).query.shape == (20, 3, 48, 48)
    assert smaller.validator(stream).examples().query.shape[2:] == (64, 64)


def test_validation_may_be_another_collection(collection: str, paint: Paint, tmp_path: Path) -> None:
    other = paint(tmp_path / "other", count=64, labelled=True, part_size=32)
    settings = config(collection, episodes="classes")
    elsewhere = replace(settings, classes=replace(settings.classes, val=("base",), val_collection=other))
    assert hashes(elsewhere)["val_plan"] != hashes(settings)["val_plan"]
    data = TrainingData.open(elsewhere)
    validator = data.validator(data.stream())
    assert validator.examples().query.shape == (6, 3, 400, 400)
