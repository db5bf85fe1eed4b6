"""Order and tries of the parts of a pass, and the search for pictures at fault; no Ray."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fss.collection.part_pipeline import RowSelection
from pipelines.runtime.faulty_rows import MOST, make_without_faulty_rows
from pipelines.runtime.part_queue import LOSSES, MANY, TRIES, PartQueue


def test_failed_parts_come_again_after_all_others_and_are_given_up() -> None:
    queue = PartQueue(["a", "b", "c"])
    assert queue.take(1) == ["a"]
    queue.fail("a", "first")
    assert queue.take(5) == ["b", "c"]
    queue.finish("b")
    for attempt in range(1, TRIES):
        assert queue.take(5) == ["a"]
        queue.fail("a", f"try {attempt}")
    assert not queue
    assert queue.given_up == {"a": f"try {TRIES - 1}"}


def test_a_part_that_succeeds_later_has_not_failed() -> None:
    queue = PartQueue(["a"])
    queue.take(1)
    queue.fail("a", "passing")
    assert queue.take(1) == ["a"]
    queue.finish("a")
    assert (len(queue), queue.failures, queue.given_up) == (0, {}, {})


def test_a_process_that_dies_with_several_parts_blames_none_of_them() -> None:
    queue = PartQueue(["a", "b", "c"])
    queue.crash(queue.take(2), "died", machine_lost=False)
    assert queue.failures == {}
    assert [queue.take(2), queue.take(2), queue.take(2)] == [["a"], ["b"], ["c"]]
    queue.crash(["b"], "died", machine_lost=False)
    assert queue.failures == {"b": "died"}


def test_lost_machines_are_no_failures_of_a_part_up_to_a_limit() -> None:
    queue = PartQueue(["a"])
    for _ in range(LOSSES):
        queue.crash(queue.take(1), "machine lost", machine_lost=True)
        assert queue.failures == {}
    queue.crash(queue.take(1), "machine lost", machine_lost=True)
    assert queue.failures == {"a": "machine lost"}


@pytest.mark.parametrize(
    ("failed", "finished", "allowed", "hopeless"),
    [(MANY - 1, 0, 0, False), (MANY, 0, 0, True), (MANY, MANY, 0, False), (2 * MANY, 0, 2 * MANY, False)],
)
def test_a_pass_stops_early_where_most_parts_fail(failed: int, finished: int, allowed: int, hopeless: bool) -> None:
    queue = PartQueue([])
    for number in range(failed):
        queue.fail(f"failed-{number}", "reason")
    for number in range(finished):
        queue.finish(f"finished-{number}")
    assert queue.hopeless(allowed) is hopeless


class Part:
    """A part with rows at fault, whose function is called with selections of rows."""

    def __init__(self, faulty: set[int], *, unwritable: int = 0, outage: bool = False) -> None:
        self.faulty, self.outage, self.calls = faulty, outage, 0
        self.unwritable = unwritable  # tries of the whole part that fail

    def __call__(self, selections: Sequence[RowSelection]) -> list[Mapping[str, Any]]:
        self.calls += len(selections)
        return [self._make(selection) for selection in selections]

    def _make(self, selection: RowSelection) -> Mapping[str, Any]:
        rows = selection.only if selection.only is not None else range(64)
        bad = (self.faulty & set(rows)) - set(selection.faulty)
        failing = bool(bad)
        if selection.only is None and self.unwritable:
            self.unwritable, failing = self.unwritable - 1, True
        failure = f"Traceback\nRuntimeError: row {min(bad, default=-1)}" if failing else ""
        return {"failure": failure, "outage": failing and self.outage}


@pytest.mark.parametrize("faulty", [{0}, {63}, {17, 18, 40}])
def test_rows_at_fault_are_found_by_halves(faulty: set[int]) -> None:
    part = Part(faulty)
    reasons, report = make_without_faulty_rows(64, part)
    assert reasons == {row: f"RuntimeError: row {row}" for row in sorted(faulty)}
    assert report is not None
    assert not report["failure"]
    assert part.calls <= 15 * len(faulty) + 1


def test_a_part_whose_process_dies_once_more_is_made() -> None:
    reasons, report = make_without_faulty_rows(64, Part({3}, unwritable=1))
    assert reasons == {3: "RuntimeError: row 3"}
    assert report is not None and not report["failure"]


@pytest.mark.parametrize(
    "part", [Part(set()), Part(set(range(MOST + 1))), Part({3}, unwritable=2), Part({3}, outage=True)]
)
def test_a_part_that_its_rows_do_not_explain_stays_failed(part: Part) -> None:
    assert make_without_faulty_rows(64, part) == ({}, None)
