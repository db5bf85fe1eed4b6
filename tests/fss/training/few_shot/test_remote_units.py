"""Units contain the rows of a lane by part, in the order of need, and give the same steps as the stream."""

from itertools import repeat

import pytest
import torch

from fss.collection import Collection, MaskSet
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.remote_units import LaneQueues, plan_units
from fss.training.few_shot.tasks import TaskSettings, collate, read_part_tasks
from fss.training.few_shot.usable_rows import RowTable, scan
from fss.training.lanes import EpochOrder

Discs = tuple[Collection, MaskSet]


@pytest.fixture(scope="module")
def rows(discs: Discs) -> RowTable:
    return scan(*discs, SplitConfig())


def order(rows: RowTable) -> EpochOrder:
    return EpochOrder(rows.train.counts, seed=0, epoch=0, lanes=4)


def test_units_are_the_lanes_rows_in_the_order_of_need(rows: RowTable) -> None:
    units = plan_units(order(rows), rows, (1, 3), 2, 7, max_rows=3)
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
    epoch = EpochOrder(stream.rows.train.counts, seed=0, epoch=2, lanes=4)
    units = plan_units(epoch, stream.rows, range(4), 2, 2 * len(expected), max_rows=4)
    queues, steps = LaneQueues({lane: repeat(0, 2 * len(expected)) for lane in range(4)}, take=2), []
    for unit in units:
        queues.add(unit.lane, read_part_tasks(*discs, unit.part, unit.rows, settings))
        steps += [collate(step, 2) for step in queues.steps()]
    assert [step.ids for step in steps] == [step.ids for step in expected]
    for a, b in zip(steps, expected, strict=True):
        assert torch.equal(a.query, b.query)
        assert torch.equal(a.support_views, b.support_views)
