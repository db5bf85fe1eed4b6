"""Class episodes follow their plan and do not depend on workers, cache or resuming."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fss.collection import ClassIndex, Collection, ImageReader
from fss.collection.schema import image_table, make_image_id, mask_table, part_name
from fss.core.rng import keyed_rng
from fss.episodes.config import OFF, AugmentConfig
from fss.episodes.episode import RawEpisodes
from fss.episodes.episode_plan import make_plan
from fss.images.mask_codec import mask_row
from fss.training.few_shot.class_stream import ClassStream
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from fss.training.few_shot.loop import TrainLoop
from tests.helpers.discs import noisy_disc
from tests.helpers.networks import TinySegmenter

CLASSES = (2, 4, 9)
CONFIG = StreamConfig(batch_size=4, lanes=2)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageReader, ClassIndex]:
    """Two parts of 9 images: each shows two classes, a disc and its surroundings."""
    folder = tmp_path_factory.mktemp("labelled")
    collection = Collection.create(str(folder / "c"), name="x", source="test", classes={c: str(c) for c in CLASSES})
    truth = collection.create_mask_set("truth", config_hash="0" * 16, provenance={})
    for part in range(2):
        rows, masks = [], []
        for number in range(part * 9, part * 9 + 9):
            data, mask = noisy_disc(number)
            name = make_image_id(data, str(number))
            rows.append({"image_id": name, "uri": "x", "image": data, "height": 48, "width": 64, "format": "PNG"})
            ids = [CLASSES[number % 3], CLASSES[(number + 1) % 3]]
            masks.append(mask_row(name, np.where(mask == 1, 1, 2).astype(np.uint8), ids))
        collection.write_part(part_name(part), image_table(rows))
        truth.write_part(part_name(part), mask_table(masks))
    return ImageReader(collection, truth), ClassIndex.build(truth)


def stream(labelled: tuple[ImageReader, ClassIndex], config: StreamConfig = CONFIG, **settings: object) -> ClassStream:
    arguments = {"classes": CLASSES, "episodes": 22, "shots": 2, "image_size": 32, "augment": OFF} | settings
    return ClassStream(*labelled, stream=config, **arguments)  # type: ignore[arg-type]


def equal(first: Sequence[RawEpisodes], second: Sequence[RawEpisodes]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(
        a.ids == b.ids and torch.equal(a.query, b.query) and torch.equal(a.support_views, b.support_views)
        for a, b in pairs
    )


def test_episodes_follow_the_epochs_plan(labelled: tuple[ImageReader, ClassIndex]) -> None:
    tasks = stream(labelled)
    batches = list(tasks.batches(3))
    assert len(batches) == tasks.steps_per_epoch == 5
    rows = [episode for batch in batches for episode in batch.ids]
    episodes = [tasks.draw(3, number) for number in range(20)]
    assert rows == [" ".join((e.query_id, *e.support_ids)) for e in episodes]
    seed = int(keyed_rng(0, epoch=3, purpose="plan.seed").integers(2**62))
    plan = make_plan(labelled[1], episodes=20, shots=2, seed=seed)
    assert tuple(episodes) == plan.episodes, "the episodes of an epoch are those of a plan"
    assert episodes != [tasks.draw(4, number) for number in range(20)]
    assert all(len(set(row.split())) == 3 for row in rows)
    assert batches[0].render(32).support_images.shape == (4, 2, 3, 32, 32)


def test_masks_are_those_of_the_episodes_class(labelled: tuple[ImageReader, ClassIndex]) -> None:
    tasks = stream(labelled)
    reader = labelled[0]
    episode, batch = tasks.draw(0, 0), next(iter(tasks.batches(0)))
    share = float((reader.read(episode.query_id).binary(episode.class_id) == 1).mean())
    assert float((batch.query_masks[0] == 1).float().mean()) == pytest.approx(share, abs=0.03)


def test_workers_resume_and_cache_change_nothing(
    labelled: tuple[ImageReader, ClassIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    augment = AugmentConfig()
    whole = list(stream(labelled, augment=augment).batches(1))
    assert equal(list(stream(labelled, augment=augment).batches(1, start=2)), whole[2:])
    halves = [list(stream(labelled, augment=augment, rank=r, world=2).batches(1)) for r in range(2)]
    assert [a.ids + b.ids for a, b in zip(*halves, strict=True)] == [batch.ids for batch in whole]
    thirds = [list(stream(labelled, augment=augment, rank=r, world=3).batches(1)) for r in range(3)]
    assert [len(batches[0]) for batches in thirds] == [1, 1, 2]
    assert [a.ids + b.ids + c.ids for a, b, c in zip(*thirds, strict=True)] == [batch.ids for batch in whole]
    cached = StreamConfig(batch_size=4, lanes=2, cache_folder=tmp_path)
    assert equal(list(stream(labelled, cached, augment=augment).batches(1)), whole)
    monkeypatch.setattr(ImageReader, "read_encoded", lambda *_: pytest.fail("decoded again"))
    assert equal(list(stream(labelled, cached, augment=augment).batches(1)), whole)


def test_masks_that_changed_are_not_taken_from_the_cache(tmp_path: Path) -> None:
    collection = Collection.create(str(tmp_path / "c"), name="x", source="test", classes={1: "disc"})
    data = [noisy_disc(number)[0] for number in range(4)]
    names = [make_image_id(each, str(number)) for number, each in enumerate(data)]
    columns = {"uri": "x", "height": 48, "width": 64, "format": "PNG"}
    rows = [{"image_id": name, "image": each, **columns} for name, each in zip(names, data, strict=True)]
    collection.write_part(part_name(0), image_table(rows))
    truth = collection.create_mask_set("truth", config_hash="0" * 16, provenance={})
    config = StreamConfig(batch_size=4, cache_folder=tmp_path / "cache")
    for half in range(2):  # both halves have the same number of pixels
        mask = np.zeros((48, 64), np.uint8)
        mask[:, 32 * half : 32 * half + 32] = 1
        truth.write_part(part_name(0), mask_table(mask_row(name, mask, [1]) for name in names))
        labelled = ImageReader(collection, truth), ClassIndex.build(truth)
        (batch,) = stream(labelled, config, classes=(1,), episodes=4, shots=1).batches(0)
        foreground = (batch.query_masks == 1).any(0).any(0).view(2, 16)
        assert foreground.all(1).tolist() == foreground.any(1).tolist() == [half == 0, half == 1]


@pytest.mark.slow
def test_processes_build_the_episodes_of_threads(labelled: tuple[ImageReader, ClassIndex]) -> None:
    processes = stream(labelled, replace(CONFIG, decoders="processes", decode_threads=2), augment=AugmentConfig())
    for epoch in range(2):
        assert equal(list(stream(labelled, augment=AugmentConfig()).batches(epoch)), list(processes.batches(epoch)))


def test_the_loop_trains_on_them(labelled: tuple[ImageReader, ClassIndex]) -> None:
    loop = TrainLoop(TinySegmenter(), stream(labelled), OptimizerConfig(steps=2))
    assert [report.step for report in loop.run()] == [1, 2]


def test_classes_with_too_few_images_are_named(labelled: tuple[ImageReader, ClassIndex]) -> None:
    with pytest.raises(ValueError, match="class 77 has 0"):
        stream(labelled, classes=(2, 77))
