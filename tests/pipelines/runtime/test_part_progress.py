"""Progress lines against a clock that the test turns."""

import io

from pipelines.runtime.part_progress import PartProgress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rate_and_time_left_are_those_of_the_last_minute() -> None:
    clock, out = Clock(), io.StringIO()
    progress = PartProgress("masks", parts=1000, skipped=7, out=out, clock=clock)
    clock.now += 30  # workers start
    for _ in range(40):
        progress.add({"images": 10, "accepted": 7, "rejected": 2, "errors": 1})
        clock.now += 2
    lines = out.getvalue().splitlines()
    assert lines[0] == "[masks] 1,000 parts to do, 7 already finished"
    # 39 parts took 78 s; the slow start does not count: 5 images/s, 2 s for each of 964 parts.
    assert lines[-1] == (
        "[masks] 36/1000 parts, 360 images, 5.0 images/s, 252 masks pass all checks, "
        "72 fail a check, 36 without a mask, 32:08 left"
    )
    assert len(lines) == 1 + 8  # one every ten seconds


def test_the_last_line_tells_the_whole() -> None:
    clock, out = Clock(), io.StringIO()
    progress = PartProgress("masks", parts=2, skipped=0, out=out, clock=clock)
    for _ in range(2):
        clock.now += 40
        progress.add({"images": 10})
    progress.close()
    assert out.getvalue().splitlines()[1:] == [
        "[masks] 1/2 parts, 10 images, 0.2 images/s, 0:40 left",
        "[masks] 2/2 parts, 20 images, 0.2 images/s, took 1:20",
    ]


def test_processes_that_have_yet_to_start_are_told() -> None:
    clock, out = Clock(), io.StringIO()
    progress = PartProgress("masks", parts=2, skipped=0, out=out, clock=clock)
    clock.now += 60
    progress.tick(running=0)
    assert out.getvalue().endswith("0/2 parts, no part finished for 1:00, no process has started on them\n")


def test_an_ingest_counts_photographs_and_not_masks() -> None:
    out = io.StringIO()
    progress = PartProgress("ingest photos", parts=1, skipped=0, out=out, clock=Clock())
    progress.add({"images": 10, "accepted": 9, "rejected": 1})
    progress.close()
    first, last = out.getvalue().splitlines()
    assert first == "[ingest photos] 1 part to do" and ", 9 usable, 1 unusable, " in last


def test_nothing_to_do_says_so_once() -> None:
    out = io.StringIO()
    PartProgress("masks", parts=0, skipped=3, out=out).close()
    assert out.getvalue() == "[masks] 0 parts to do, 3 already finished\n"


def test_lines_become_rarer_while_no_part_is_finished_and_the_time_left_grows() -> None:
    clock, out = Clock(), io.StringIO()
    progress = PartProgress("masks", parts=5, skipped=0, out=out, clock=clock)
    for _ in range(3):
        clock.now += 4
        progress.add({})
    for _ in range(200):
        clock.now += 1
        progress.failed = int(clock.now > 200)
        progress.tick(running=2)
    progress.add({})
    lines = [line.removeprefix("[masks] ") for line in out.getvalue().splitlines()[1:]]
    assert lines == [
        "3/5 parts, 0:08 left",
        "3/5 parts, no part finished for 1:00, processes at work: 2, 1:08 left",
        "3/5 parts, 1 failed so far, no part finished for 3:00, processes at work: 2, 3:08 left",
        "4/5 parts, 1 failed so far, 3:20 left",
    ]


def test_a_pass_without_a_machine_says_once_what_it_waits_for() -> None:
    clock, out = Clock(), io.StringIO()
    progress = PartProgress("masks", parts=4, skipped=0, out=out, clock=clock)
    for _ in range(9):
        clock.now += 1
        progress.tick(running=0, waits_for="1 CPU and 1 GPU")
    assert out.getvalue().splitlines()[1:] == [
        "[masks] waiting for a machine with 1 CPU and 1 GPU; the job goes on when there is one"
    ]
