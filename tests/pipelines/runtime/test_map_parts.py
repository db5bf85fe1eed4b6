"""The part driver on a real local Ray."""

import io
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fss.collection.part_pipeline import ALL_ROWS, RowSelection
from pipelines.runtime import part_queue
from pipelines.runtime.config import PartFailureConfig
from pipelines.runtime.faulty_rows import RowFunction
from pipelines.runtime.map_parts import OnActors, PartError, run_parts

pytestmark = pytest.mark.usefixtures("ray_local")

NAMES = [f"part-{i:05d}" for i in range(9)]


def test_every_part_once_sorted_and_finished_ones_skipped() -> None:
    def count(name: str) -> dict[str, int | str]:
        return {
            "images": 10,
            "accepted": 7,
            "rejected": 3,
            "threads": f"{os.environ['OMP_NUM_THREADS']}, {os.environ['OMP_WAIT_POLICY']}",
        }

    out = io.StringIO()
    rows: list[dict[str, Any]] = []
    result = run_parts(NAMES, count, stage="masks", finished={"part-00002"}, on_part=rows.append, out=out)
    expected = [name for name in NAMES if name != "part-00002"]
    assert sorted(row["part"] for row in rows) == expected
    assert result.made == len(expected) and result.totals["seconds"] > 0
    assert result.skipped == 1
    assert result.total("images") == 80
    assert {row["threads"] for row in rows} == {"1, passive"}
    lines = out.getvalue().splitlines()
    assert lines[0] == "[masks] 8 parts to do, 1 already finished"
    assert "8/8 parts, 80 images" in lines[-1]
    assert "56 masks pass all checks, 24 fail a check" in lines[-1]


def test_nothing_to_do_starts_nothing() -> None:
    def never(name: str) -> dict[str, int]:
        raise AssertionError(name)

    result = run_parts(NAMES, never, stage="masks", finished=set(NAMES), out=io.StringIO())
    assert result.made == 0
    assert result.skipped == len(NAMES)


def test_a_failing_part_is_named_and_the_others_finish(tmp_path: Path) -> None:
    def make(name: str) -> dict[str, int]:
        if name == "part-00004":
            raise OSError("disk full")
        (tmp_path / name).touch()
        return {}

    with pytest.raises(PartError, match="masks failed on part part-00004: OSError: disk full"):
        run_parts(NAMES, make, stage="masks", out=io.StringIO())
    assert sorted(path.name for path in tmp_path.iterdir()) == [name for name in NAMES if name != "part-00004"]


def test_many_failing_parts_stop_the_pass_early(tmp_path: Path) -> None:
    def make(name: str) -> dict[str, int]:
        (tmp_path / name).touch()
        time.sleep(0.05)
        raise ValueError("wrong everywhere")

    names = [f"part-{i:05d}" for i in range(40)]
    with pytest.raises(PartError, match=r"\(and 4 more: part-"):
        run_parts(names, make, stage="masks", workers=1, out=io.StringIO())
    assert len(list(tmp_path.iterdir())) < 40


def test_a_killed_worker_is_replaced_and_its_part_made_again(tmp_path: Path) -> None:
    def make(name: str) -> dict[str, int]:
        marker = tmp_path / name
        if name == "part-00003" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), 9)
        return {"images": 1}

    result = run_parts(NAMES, make, stage="masks", workers=2, out=io.StringIO())
    assert result.total("images") == len(NAMES)
    assert (tmp_path / "part-00003").exists()


def test_processes_that_stay_take_several_parts_at_a_time(tmp_path: Path) -> None:
    def make(names: Sequence[str]) -> Iterator[tuple[str, dict[str, int | str]]]:
        for name in names:
            with (tmp_path / name).open("x"):  # a part made twice would fail here
                yield name, {"images": len(names), "pid": os.getpid()}

    stage = OnActors(function=make, actors=2, gpus=0, names=3)
    rows: list[dict[str, Any]] = []
    run_parts(NAMES, stage, stage="masks", finished={NAMES[0]}, on_part=rows.append, out=io.StringIO())
    assert sorted(row["part"] for row in rows) == NAMES[1:]
    assert {row["images"] for row in rows} <= {1, 2, 3}
    assert max(row["images"] for row in rows) > 1
    assert 1 <= len({row["pid"] for row in rows}) <= 2


def test_an_actor_that_cannot_start_says_why_in_the_first_line() -> None:
    def make(names: Sequence[str]) -> Iterator[tuple[str, dict[str, int]]]:
        raise ValueError("the weights file w.pth is empty")
        yield from ()

    stage = OnActors(function=make, actors=1, gpus=0)
    with pytest.raises(
        PartError, match=r"^masks failed on part part-\d+ .*: ValueError: the weights file w\.pth is empty\n"
    ):
        run_parts(NAMES, stage, stage="masks", out=io.StringIO())


def test_a_failing_part_of_an_actor_is_named_and_the_others_finish(tmp_path: Path) -> None:
    def make(names: Sequence[str]) -> Iterator[tuple[str, dict[str, int] | Exception]]:
        for name in names:
            if name == "part-00004":
                yield name, OSError("disk full")
            else:
                (tmp_path / name).touch()
                yield name, {}

    stage = OnActors(function=make, actors=1, gpus=0)
    with pytest.raises(PartError, match="masks failed on part part-00004: OSError: disk full"):
        run_parts(NAMES, stage, stage="masks", out=io.StringIO())
    assert sorted(path.name for path in tmp_path.iterdir()) == [name for name in NAMES if name != "part-00004"]


def test_a_picture_that_kills_its_process_is_put_aside_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(part: str, selection: RowSelection = ALL_ROWS) -> dict[str, int]:
        for row in selection.pick(range(2)):
            if part == "part-00003" and row == 1 and row not in selection.faulty:
                os.kill(os.getpid(), 11)
        if selection.only is None:
            (tmp_path / part).write_text("".join(selection.faulty.values()))
        return {"images": 2}

    monkeypatch.setattr(part_queue, "TRIES", 1)  # every death costs the start of a process
    by_row = RowFunction(function=make, pictures=lambda part: ["0.jpg", "1.jpg"])
    result = run_parts(NAMES, make, stage="masks", workers=2, by_row=by_row, out=io.StringIO())
    reason = "RuntimeError: its process died: killed, or crashed in compiled code"
    assert result.faulty_rows == {"part-00003": {"1.jpg": reason}}
    assert result.notes() == [f"1.jpg in part-00003 made the part fail: {reason}"]
    assert result.total("images") == 2 * len(NAMES)
    assert (tmp_path / "part-00003").read_text() == reason


def test_the_parts_of_an_actor_that_dies_are_made_by_another(tmp_path: Path) -> None:
    def make(names: Sequence[str]) -> Iterator[tuple[str, dict[str, int]]]:
        for name in names:
            if name == "part-00003" and not (tmp_path / name).exists():
                (tmp_path / name).touch()
                os.kill(os.getpid(), 9)
            yield name, {"images": 1}

    stage = OnActors(function=make, actors=1, gpus=0, names=4)
    assert run_parts(NAMES, stage, stage="masks", out=io.StringIO()).total("images") == len(NAMES)


def test_a_part_that_takes_too_long_fails_alone_within_the_allowed_share(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str) -> dict[str, int]:
        time.sleep(60 if name == "part-00002" else 0)
        return {"images": 1}

    monkeypatch.setattr(part_queue, "TRIES", 1)
    out, failures = io.StringIO(), PartFailureConfig(max_failed_parts=0.2, part_timeout=1.0)
    result = run_parts(NAMES, make, stage="masks", failures=failures, out=out)
    assert result.failed == {"part-00002": "it took longer than 1 s (--part-timeout)"}
    assert result.notes() == ["part-00002 failed and is missing: it took longer than 1 s (--part-timeout)"]
    assert "8/9 parts, 8 images" in out.getvalue().splitlines()[-1]
    assert ", 1 failed, took" in out.getvalue().splitlines()[-1]
