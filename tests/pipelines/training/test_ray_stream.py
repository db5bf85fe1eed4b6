"""Episodes decoded by Ray Data: the same steps as a training worker would make itself."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fss.collection import Collection
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.mixed_stream import MixedStream
from pipelines.training import ray_stream
from pipelines.training.ray_stream import RayMaskSplitStream, RayMixedStream

Paint = Callable[..., str]


def open_stream(kind: type[MaskSplitStream], collection: str, rank: int = 0, world: int = 1) -> MaskSplitStream:
    opened = Collection.open(collection)
    return kind(
        opened,
        opened.mask_set("saliency"),
        image_size=48,
        stream=StreamConfig(batch_size=4, lanes=4, held_out=0.1),
        split=SplitConfig(),
        augment=AugmentConfig(),
        rank=rank,
        world=world,
    )


def test_the_steps_are_those_of_the_workers_own_stream(
    ray_local: None, paint_masked: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_stream, "WINDOW", 2)  # steps of several executions follow each other
    collection = paint_masked(tmp_path / "photos", count=24)
    for epoch, start, world in ((0, 0, 1), (3, 2, 2)):
        own = list(open_stream(MaskSplitStream, collection, world=world).batches(epoch, start))
        streamed = list(open_stream(RayMaskSplitStream, collection, world=world).batches(epoch, start))
        assert len(streamed) == len(own) > 1
        for a, b in zip(own, streamed, strict=True):
            assert a.ids == b.ids
            assert torch.equal(a.query, b.query)
            assert torch.equal(a.support_masks, b.support_masks)
            assert torch.equal(a.query_views, b.query_views)


def test_a_mix_gives_the_steps_of_the_workers_own_streams(
    ray_local: None, paint_masked: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_stream, "WINDOW", 3)
    uris = [paint_masked(tmp_path / name, count=count) for name, count in (("a", 24), ("b", 16))]
    streams = [open_stream(MaskSplitStream, uri) for uri in uris]
    own = list(MixedStream(streams, (1, 2)).batches(1, 2))
    streamed = list(RayMixedStream(streams, (1, 2)).batches(1, 2))
    assert len(streamed) == len(own) > 3
    for a, b in zip(own, streamed, strict=True):
        assert a.ids == b.ids and torch.equal(a.query, b.query) and torch.equal(a.query_views, b.query_views)


def test_a_machine_without_a_cpu_to_spare_is_an_error_not_a_wait(
    ray_local: None, paint_masked: Paint, tmp_path: Path
) -> None:
    stream = open_stream(RayMaskSplitStream, paint_masked(tmp_path / "photos", count=24))
    assert isinstance(stream, RayMaskSplitStream)
    stream.leave_cpus(1000)
    with pytest.raises(ValueError, match=r"1000 of .* CPUs leave none for decoding"):
        next(stream.batches(0))
