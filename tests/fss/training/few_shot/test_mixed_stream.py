"""A mix of collections keeps its weights, and does not depend on workers, resuming or the loader."""

from collections import Counter, defaultdict

import pytest
import torch

from fss.collection import Collection, MaskSet
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.episodes.episode import RawEpisodes
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.mixed_stream import MixedStream
from fss.training.few_shot.remote_units import LaneQueues, plan_units
from fss.training.few_shot.tasks import collate, read_part_tasks
from fss.training.lanes import MixSchedule
from tests.helpers.discs import noisy_collection

Discs = tuple[Collection, MaskSet]
CONFIG = StreamConfig(batch_size=8, lanes=4, held_out=0.1)
WEIGHTS = (3.0, 1.0)


@pytest.fixture(scope="module")
def both(discs: Discs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Discs, Discs]:
    """The discs, and 26 images of which 24 are usable; they are the same pictures in other parts."""
    return discs, noisy_collection(tmp_path_factory.mktemp("more") / "collection", 26, part_size=12)


def mix(both: tuple[Discs, Discs], *, rank: int = 0, world: int = 1) -> MixedStream:
    split, augment = SplitConfig(distractor=0.5), AugmentConfig()
    streams = [
        MaskSplitStream(*discs, image_size=32, stream=CONFIG, split=split, augment=augment, rank=rank, world=world)
        for discs in both
    ]
    return MixedStream(streams, WEIGHTS)


def equal(a: RawEpisodes, b: RawEpisodes) -> bool:
    tensors = ("query", "query_masks", "query_views", "support_masks", "support_views", "placements")
    return a.ids == b.ids and all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)


@pytest.mark.parametrize("weights", [(1.0,), (7.0, 3.0), (1.0, 1.0, 1.0), (1.0, 1000.0), (0.2, 0.3, 0.5)])
def test_every_window_has_the_shares_of_the_weights(weights: tuple[float, ...]) -> None:
    schedule = MixSchedule(weights, seed=3)
    draws = schedule.draws(2, 0, 20_000)
    counts, seen = Counter(source for source, _ in draws), defaultdict[int, list[int]](list)
    for source, number in draws:
        seen[source].append(number)
    for source, weight in enumerate(schedule.weights):
        assert abs(counts[source] - 20_000 * weight) <= 0.05 * 20_000 * weight + 3
        assert seen[source] == list(range(counts[source])), "every draw of a collection has the next number"
    assert schedule.draws(2, 4_500, 7_000) == draws[4_500:11_500]
    assert MixSchedule(weights, seed=3).draws(2, 0, 20_000) == draws
    if len(weights) > 1:
        assert schedule.draws(1, 0, 20_000) != draws != MixSchedule(weights, seed=4).draws(2, 0, 20_000)


def test_each_collection_goes_through_its_own_epochs(both: tuple[Discs, Discs]) -> None:
    stream = mix(both)
    assert stream.steps_per_epoch == (stream.streams[0].lane_length + stream.streams[1].lane_length) // 2
    read = defaultdict[int, list[tuple[int, int]]](list)
    for epoch in range(5):
        for source, draw in stream.draws(1, epoch, 0, stream.steps_per_epoch):
            read[source].append((draw.epoch, draw.position))
    for source, positions in read.items():
        length = stream.streams[source].lane_length
        assert positions == [divmod(number, length) for number in range(len(positions))]


def test_workers_and_resuming_change_nothing(both: tuple[Discs, Discs]) -> None:
    whole = list(mix(both).batches(1))
    assert len({name for batch in whole for name in batch.ids}) > 20
    resumed = list(mix(both).batches(1, start=3))
    assert len(resumed) == len(whole) - 3 and all(map(equal, whole[3:], resumed))
    shares = [list(mix(both, rank=rank, world=2).batches(1)) for rank in range(2)]
    for step, batch in enumerate(whole):  # lanes 0 and 2, lanes 1 and 3
        rows = {name: query for share in shares for name, query in zip(share[step].ids, share[step].query, strict=True)}
        assert sorted(shares[0][step].ids + shares[1][step].ids) == sorted(batch.ids)
        assert all(torch.equal(rows[name], query) for name, query in zip(batch.ids, batch.query, strict=True))


def test_held_out_tasks_come_from_all_collections(both: tuple[Discs, Discs]) -> None:
    stream = mix(both)
    names = [{name for batch in each.held_out() for name in batch.ids} for each in stream.streams]  # type: ignore[attr-defined]
    batches = list(stream.held_out(4))
    assert sum(map(len, batches)) <= 4 and len(next(stream.held_out(2))) == 2
    ids = [name for batch in batches for name in batch.ids]
    assert set(ids) & names[0] and set(ids) & names[1]
    assert sum(map(len, stream.held_out())) == stream.counts["held_out"] == sum(map(len, names))


def test_steps_made_of_units_are_the_streams_steps(both: tuple[Discs, Discs]) -> None:
    stream = mix(both)
    first, second = stream.streams
    assert isinstance(first, MaskSplitStream) and isinstance(second, MaskSplitStream)
    expected = list(stream.batches(2, start=1))
    draws = {lane: stream.draws(lane, 2, 1, len(expected)) for lane in stream.lanes}
    units = plan_units(draws, [first.order, second.order], [first.rows, second.rows], max_rows=3)
    queues, steps = LaneQueues({lane: [source for source, _ in own] for lane, own in draws.items()}, 2), []
    for unit in units:
        settings = first.settings(unit.epoch)
        queues.add(unit.lane, read_part_tasks(*both[unit.source], unit.part, unit.rows, settings), unit.source)
        steps += [collate(step, 2) for step in queues.steps()]
    assert len(steps) == len(expected) and all(map(equal, steps, expected))
