"""Units contain the rows of a lane by part, in the order of need, and give the same steps as the stream."""

from collections.abc import Iterable
from functools import partial

import pytest
import torch

from fss.collection import Collection, MaskSet
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.remote_units import LaneQueues, Unit, plan_units
from fss.training.few_shot.tasks import TaskSettings, collate, read_part_tasks
from fss.training.few_shot.usable_rows import RowTable, scan
from fss.training.lanes import Draw, EpochOrder

Discs = tuple[Collection, MaskSet]


@pytest.fixture(scope="module")
def rows(discs: Discs) -> RowTable:
    return scan(*discs, SplitConfig())


def order(rows: RowTable, epoch: int = 0) -> EpochOrder:
    return EpochOrder(rows.train.counts, seed=0, epoch=epoch, lanes=4)


def plan(rows: RowTable, lanes: Iterable[int], positions: range, *, epoch: int = 0, max_rows: int) -> list[Unit]:
    draws = {lane: [(0, Draw(epoch, position, lane)) for position in positions] for lane in lanes}
    return plan_units(draws, [partial(order, rows)], [rows], max_rows=max_rows)


def test_units_are_the_lanes_rows_in_the_order_of_need(rows: RowTable) -> None:
    units = plan(rows, (1, 3), range(2, 9), max_rows=3)
    position = dict.fromkeys((1, 3), 0)
    starts = []
    for unit in units:
        assert 1 <= len(unit.rows) <= 3
        starts.append(position[unit.lane])
        position[unit.lane] += len(unit.rows)
    assert starts == sorted(starts), "a step would wait for a unit behind one that is needed later"
    for lane in (1, 3):
        expected = [(rows.part(p), int(rows.train[p][n])) for p, n in order(rows).rows(lane, 2, 7)]
        assert [(unit.part, row) for unit in units if unit.lane == lane for row in unit.rows] == expected


def test_steps_made_of_units_are_the_streams_steps(discs: Discs) -> None:
    config, augment = StreamConfig(batch_size=8, lanes=4, held_out=0.1), AugmentConfig()
    stream = MaskSplitStream(*discs, image_size=32, stream=config, split=SplitConfig(), augment=augment)
    expected = list(stream.batches(2, start=1))
    settings = TaskSettings(size=32, split=SplitConfig(), augment=augment, seed=0, epoch=2)
    count = 2 * len(expected)
    units = plan(stream.rows, range(4), range(2, 2 + count), epoch=2, max_rows=4)
    assert all((unit.source, unit.epoch) == (0, 2) for unit in units)
    queues, steps = LaneQueues({lane: [0] * count for lane in range(4)}, take=2), []
    for unit in units:
        queues.add(unit.lane, read_part_tasks(*discs, unit.part, unit.rows, settings))
        steps += [collate(step, 2) for step in queues.steps()]
    assert [step.ids for step in steps] == [step.ids for step in expected]
    for a, b in zip(steps, expected, strict=True):
        assert torch.equal(a.query, b.query)
        assert torch.equal(a.support_views, b.support_views)
