"""Lanes contain each row at most once, have equal lengths, and give the same steps for any number of workers."""

import itertools

import numpy as np
import pytest

from fss.training.few_shot.config import StreamConfig
from fss.training.lanes import EpochOrder, check_lanes, check_share, steps_per_epoch

COUNTS = [5, 0, 7, 1, 9, 64, 3]


def lane_rows(epoch: int = 0, seed: int = 0, lanes: int = 4) -> list[list[tuple[int, int]]]:
    order = EpochOrder(COUNTS, seed=seed, epoch=epoch, lanes=lanes)
    return [order.rows(lane, 0, sum(COUNTS) // lanes) for lane in range(lanes)]


def test_lanes_share_the_rows_evenly_and_none_twice() -> None:
    lanes = lane_rows()
    assert {len(rows) for rows in lanes} == {sum(COUNTS) // 4}
    all_rows = [row for rows in lanes for row in rows]
    assert len(set(all_rows)) == len(all_rows) == 88
    assert all(0 <= row < COUNTS[part] for part, row in all_rows)


def test_a_lane_reads_its_parts_one_after_the_other() -> None:
    for rows in lane_rows():
        parts = [part for part, _ in rows]
        changes = sum(a != b for a, b in itertools.pairwise(parts))
        assert changes == len(set(parts)) - 1


def test_reading_from_any_position_gives_the_same_rows() -> None:
    order = EpochOrder(COUNTS, seed=0, epoch=3, lanes=4)
    whole = order.rows(2, 0, 22)
    assert [row for start in range(0, 22, 2) for row in order.rows(2, start, 2)] == whole
    assert EpochOrder(COUNTS, seed=0, epoch=3, lanes=4).rows(2, 10, 4) == whole[10:14]


def test_epochs_and_seeds_differ() -> None:
    orders = [lane_rows(), lane_rows(epoch=1), lane_rows(seed=1)]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]
    assert orders[0] == lane_rows()


def test_over_epochs_every_row_gets_its_turn() -> None:
    seen = np.zeros(sum(COUNTS))
    firsts = np.cumsum([0, *COUNTS[:-1]])
    for epoch in range(12):
        for rows in lane_rows(epoch, lanes=3):
            for part, row in rows:
                seen[firsts[part] + row] += 1
    assert seen.min() >= 8


def test_steps_of_an_epoch() -> None:
    assert steps_per_epoch(89, lanes=4, batch=8) == 11
    assert steps_per_epoch(8, lanes=8, batch=8) == 1
    with pytest.raises(ValueError, match="7 usable images"):
        steps_per_epoch(7, lanes=8, batch=8)


@pytest.mark.parametrize(("lanes", "batch", "world"), [(8, 12, 1), (8, 16, 9), (0, 4, 1), (8, 8, 0)])
def test_lanes_that_do_not_fit_are_refused(lanes: int, batch: int, world: int) -> None:
    with pytest.raises(ValueError, match="lanes"):
        check_lanes(lanes, batch, world)


@pytest.mark.parametrize(("batch", "lanes"), [(16, 8), (20, 10), (12, 6), (15, 5), (7, 1), (1, 1)])
def test_a_lane_of_split_episodes_has_partners_by_default(batch: int, lanes: int) -> None:
    assert StreamConfig(batch_size=batch).lane_count == lanes
    assert StreamConfig(batch_size=batch, lanes=batch).lane_count == batch


def test_a_batch_is_shared_by_at_most_as_many_workers() -> None:
    check_share(12, 12)
    with pytest.raises(ValueError, match="13 workers cannot share a batch of 12 episodes; use 1 to 12 --workers"):
        check_share(12, 13)
