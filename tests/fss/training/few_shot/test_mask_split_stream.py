"""The stream does not depend on workers, threads, cache or resuming, and contains no held_out_ids-out image."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fss.collection import Collection, MaskSet, part_io
from fss.collection.schema import mask_table, part_name
from fss.core.prefetch import prefetch
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.episodes.episode import RawEpisodes
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from tests.helpers.discs import noisy_collection

Discs = tuple[Collection, MaskSet]
CONFIG = StreamConfig(batch_size=8, lanes=4, held_out=0.1)


def stream(discs: Discs, config: StreamConfig = CONFIG, **settings: object) -> MaskSplitStream:
    split, augment = SplitConfig(), AugmentConfig()
    return MaskSplitStream(*discs, image_size=32, stream=config, split=split, augment=augment, **settings)  # type: ignore[arg-type]


def by_id(batch: RawEpisodes) -> dict[str, tuple[torch.Tensor, ...]]:
    rows = zip(batch.query, batch.query_masks, batch.query_views, batch.support_masks, batch.support_views, strict=True)
    return dict(zip(batch.ids, rows, strict=True))


def same(first: RawEpisodes, second: RawEpisodes) -> bool:
    a, b = by_id(first), by_id(second)
    return a.keys() == b.keys() and all(
        all(torch.equal(x, y) for x, y in zip(a[name], b[name], strict=True)) for name in a
    )


def test_counts_say_what_was_left_out(discs: Discs) -> None:
    counts = stream(discs).counts
    assert counts["no_mask"] == 1
    assert counts["too_small"] == 1
    assert counts["train"] + counts["held_out"] == 43
    assert counts["held_out"] >= 1
    accepted = discs[0].image_ids()["part-00001"]
    limited = stream(discs, StreamConfig(batch_size=4, lanes=2, held_out=0), accepted=set(accepted)).counts
    assert limited == {"train": 8, "held_out": 0, "no_mask": 1, "not_accepted": 36, "too_small": 0}


def test_an_epoch_shows_each_image_at_most_once_and_never_a_held_out_one(discs: Discs) -> None:
    tasks = stream(discs)
    ids = [name for batch in tasks.batches(0) for name in batch.ids]
    assert len(ids) == len(set(ids)) == tasks.steps_per_epoch * 8
    held_out_ids = {name for batch in tasks.held_out() for name in batch.ids}
    assert len(held_out_ids) == tasks.counts["held_out"]
    assert not held_out_ids & {name for epoch in range(4) for batch in tasks.batches(epoch) for name in batch.ids}


@pytest.mark.parametrize(("world", "sizes"), [(2, (4, 4)), (3, (4, 2, 2))])
def test_workers_read_together_what_one_reads(discs: Discs, world: int, sizes: tuple[int, ...]) -> None:
    one = list(stream(discs).batches(1))
    shares = [list(stream(discs, rank=rank, world=world).batches(1)) for rank in range(world)]
    for step, whole in enumerate(one):
        joined: dict[str, list[torch.Tensor]] = {}
        for share in shares:
            joined |= by_id(share[step])
        assert tuple(len(share[step]) for share in shares) == sizes
        assert joined.keys() == by_id(whole).keys()
        assert all(torch.equal(x, y) for n, row in by_id(whole).items() for x, y in zip(row, joined[n], strict=True))


def test_large_parts_give_the_steps_of_parts_of_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_io, "ROW_GROUP", 4)
    small, large = (noisy_collection(tmp_path / str(size), 40, size) for size in (8, 24))
    rows = [row for name in small[0].part_names() for row in small[1].read_part(name).to_pylist()]
    for part in (0, 1):
        large[1].write_part(part_name(part), mask_table(rows[24 * part : 24 * part + 24]))
    first, second = list(stream(small).batches(1)), list(stream(large).batches(1))
    assert len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    assert all(same(a, b) for a, b in zip(stream(small).held_out(), stream(large).held_out(), strict=True))
    large[0].metadata["format"] = 1
    rows_of_blocks = [stream(large).rows.block(block) for block in (0, 1)]
    assert rows_of_blocks == [range(24), range(16)], "parts of one row group are read as a whole"


def test_resuming_in_the_middle_gives_the_same_steps(discs: Discs) -> None:
    whole, rest = list(stream(discs).batches(2)), list(stream(discs).batches(2, start=3))
    assert len(rest) == len(whole) - 3
    assert all(same(a, b) for a, b in zip(whole[3:], rest, strict=True))


def test_the_cache_changes_nothing_and_spares_decoding(
    discs: Discs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = list(stream(discs, StreamConfig(batch_size=8, lanes=4, held_out=0.1, cache_gb=0)).batches(0))
    config = StreamConfig(batch_size=8, lanes=4, held_out=0.1, cache_folder=tmp_path)
    first = list(stream(discs, config).batches(0))
    monkeypatch.setattr("fss.training.few_shot.tasks.decode_canvas", lambda *_: pytest.fail("decoded again"))
    again = list(stream(discs, config).batches(0))
    assert all(same(a, b) and same(a, c) for a, b, c in zip(plain, first, again, strict=True))
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "settings",
    [
        {"decode_threads": 1, "ahead": 0},
        {"decode_threads": 5, "ahead": 1},
        pytest.param({"decode_threads": 2, "decoders": "processes"}, marks=pytest.mark.slow),
        pytest.param({"decode_threads": 3, "decoders": "processes", "cache_gb": 0.0}, marks=pytest.mark.slow),
    ],
)
def test_the_decoders_change_nothing(discs: Discs, settings: dict[str, Any]) -> None:
    tasks = stream(discs, replace(CONFIG, **settings))
    for start in (0, 2):
        batches = zip(stream(discs).batches(1, start), tasks.batches(1, start), strict=True)
        assert all(a.ids == b.ids and same(a, b) for a, b in batches)
    assert all(same(a, b) for a, b in zip(stream(discs).held_out(), tasks.held_out(), strict=True))


def test_a_cache_that_is_too_small_keeps_what_fits(discs: Discs) -> None:
    tasks = stream(discs, StreamConfig(batch_size=8, lanes=4, held_out=0.1, cache_gb=10 * 3 * 32 * 32 / 1e9))
    assert [batch.ids for batch in tasks.batches(0)] == [batch.ids for batch in stream(discs).batches(0)]


def test_every_rendered_task_has_something_to_show_and_to_find(discs: Discs) -> None:
    for epoch in range(3):
        for raw in stream(discs).batches(epoch):
            batch = raw.render(32)
            assert (batch.support_masks.sum((1, 2, 3)) > 0).all()
            assert ((batch.target == 1).sum((1, 2)) > 0).all()


def test_held_out_tasks_are_the_same_for_every_seed_and_setting(discs: Discs) -> None:
    other = MaskSplitStream(
        *discs,
        image_size=32,
        stream=StreamConfig(batch_size=8, lanes=4, held_out=0.1, seed=9),
        split=SplitConfig(vertical=0, tilt=0.1),
        augment=AugmentConfig(enabled=False),
    )
    assert all(same(a, b) for a, b in zip(stream(discs).held_out(), other.held_out(), strict=True))
    assert sum(len(batch) for batch in other.held_out(limit=1)) == 1


def test_an_incomplete_mask_set_is_refused(discs: Discs) -> None:
    empty = discs[0].create_mask_set("empty", config_hash="1" * 16, provenance={})
    with pytest.raises(ValueError, match="lacks 6 of 6 parts"):
        stream((discs[0], empty))


def test_prefetch_keeps_order_passes_errors_and_stops() -> None:
    produced: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            produced.append(number)
            yield number
        raise RuntimeError("broken")

    received = []
    with pytest.raises(RuntimeError, match="broken"):
        for number in prefetch(numbers(), 2):
            received.append(number)
    assert received == [0, 1, 2, 3, 4]
    produced.clear()
    early = prefetch(numbers(), 1)
    assert next(early) == 0
    early.close()  # type: ignore[attr-defined]
    assert len(produced) <= 4
