"""Trainings on several collections: their settings, their records, and what a worker gets."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fss.collection import Collection
from fss.collection.part_io import write_json
from fss.models.config import SegmenterConfig
from fss.training.few_shot.config import ClassesConfig, StreamConfig
from pipelines.training.config import MixConfig, TrainJobConfig, work_hash
from pipelines.training.data import TrainingData

Paint = Callable[..., str]


@pytest.fixture(scope="module")
def uris(paint_masked: Paint, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("mix")
    return paint_masked(folder / "a", count=60), paint_masked(folder / "b", count=48, part_size=16)


def config(uris: tuple[str, str], weights: tuple[float, ...] = (0.7, 0.3), **settings: Any) -> TrainJobConfig:
    mix = settings.pop("mix", MixConfig(collections=uris[1:], weights=weights))
    return TrainJobConfig(
        collection=uris[0],
        output="nowhere",
        mix=mix,
        segmenter=SegmenterConfig(image_size=48),
        stream=StreamConfig(batch_size=4, lanes=2, held_out=0.1),
        **settings,
    )


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"weights": (1.0,)}, "several collections; name the others with --mix.collections"),
        ({"collections": ("b",), "weights": (1.0,)}, "has 1 weights for 2 collections"),
        ({"collections": ("b",), "weights": (1.0, 0.0)}, "must be above 0, got 0"),
        ({"collections": ("b",), "weights": (-1.0, 2.0)}, "must be above 0, got -1"),
        ({"collections": ("b",), "weights": (float("nan"), 2.0)}, "must be a finite number, got nan"),
        ({"collections": ("b",), "mask_sets": ("x", "y")}, "has 2 names for 1 further collections"),
        ({"collections": ("b",), "acceptances": (None, "y")}, "mix.acceptances has 2 names"),
    ],
)
def test_settings_that_cannot_be_meant(mix: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixConfig(**mix)


def test_collections_that_cannot_be_used(uris: tuple[str, str]) -> None:
    for settings, message in (
        ({"mix": MixConfig(collections=(uris[0],))}, "is named twice"),
        ({"mix": MixConfig(collections=("nowhere",))}, "no collection at .*nowhere"),
        ({"mix": MixConfig(collections=uris[1:], mask_sets=("none",))}, "has no mask set 'none'"),
        ({"mix": MixConfig(collections=uris[1:], acceptances=("none",))}, "has no acceptance 'none'"),
        ({"episodes": "classes", "classes": ClassesConfig(benchmark="fss")}, "trained on one collection"),
    ):
        with pytest.raises(ValueError, match=message):
            TrainingData.open(config(uris, **settings))


def test_every_collection_is_recorded_with_its_weight(uris: tuple[str, str]) -> None:
    data = TrainingData.open(config(uris))
    hashes = data.hashes()
    assert set(hashes) == {f"{name}{end}" for name in ("collection", "mask_set", "acceptance") for end in ("", ".2")}
    assert hashes["collection"] != hashes["collection.2"]
    first, second = data.sources
    assert list(data.shares().values()) == [
        f"{first.usable:,} pictures, weight 0.7",
        f"{second.usable:,} pictures, weight 0.3",
    ]
    assert data.counts()["train"] == first.usable + second.usable
    by_count = TrainingData.open(config(uris, weights=()))
    assert f"weight {first.usable / (first.usable + second.usable):.4g}" in next(iter(by_count.shares().values()))
    keys = {work_hash(config(uris, weights=w), hashes) for w in ((0.7, 0.3), (0.5, 0.5), ())}
    assert len(keys) == 3
    single = TrainingData.open(config(uris, mix=MixConfig()))
    assert single.shares() == {} and set(single.hashes()) == {"collection", "mask_set", "acceptance"}


@pytest.mark.parametrize("episodes", ["split", "classes"])
def test_a_worker_trains_without_reading_the_collections_again(
    uris: tuple[str, str], episodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = ClassesConfig(train=("base",), val=("novel",), val_episodes=6, skip_small_classes=True)
    settings = config(uris, episodes=episodes, mask_set="truth", acceptance=None, classes=classes, held_out_tasks=6)
    settings = replace(settings, mix=replace(settings.mix, acceptances=(None,)))
    data = TrainingData.open(settings)
    before = list(data.stream().batches(0))
    packed = pickle.dumps(data)
    monkeypatch.setattr("fss.collection.manifest.PartFolder.tables", lambda *_: pytest.fail("read again"))
    worker: TrainingData = pickle.loads(packed)
    stream = worker.stream()
    after = list(stream.batches(0))
    assert len(after) == len(before) == stream.steps_per_epoch
    assert all(a.ids == b.ids and torch.equal(a.query, b.query) for a, b in zip(before, after, strict=True))
    assert len(worker.validator(stream).examples().ids) == (4 if episodes == "split" else 6)


def test_no_class_is_trained_on_in_one_collection_and_validated_on_in_another(
    uris: tuple[str, str], paint_masked: Paint, tmp_path: Path
) -> None:
    other = Collection.open(paint_masked(tmp_path / "b", count=48))
    splits = other.class_splits
    other.metadata["class_splits"] = {"base": splits["novel"], "novel": splits["base"]}
    write_json(f"{other.uri}/collection.json", other.metadata)
    classes = ClassesConfig(train=("base",), val=("novel",))
    settings = config((uris[0], other.uri), episodes="classes", mask_set="truth", acceptance=None, classes=classes)
    with pytest.raises(ValueError, match=r"training classes of .* are validation classes of the first collection"):
        TrainingData.open(settings)
