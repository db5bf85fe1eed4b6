"""The part driver on a real local Ray."""

import io
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import ray

from pipelines.runtime.map_parts import OnActors, PartError, run_parts
from pipelines.runtime.ray_session import get_results

pytestmark = pytest.mark.usefixtures("ray_local")

NAMES = [f"part-{i:05d}" for i in range(9)]


def test_every_part_once_sorted_and_finished_ones_skipped() -> None:
    def count(name: str) -> dict[str, int | str]:
        return {"images": 10, "accepted": 7, "rejected": 3, "threads": os.environ["OMP_NUM_THREADS"]}

    out = io.StringIO()
    seen: list[str] = []
    result = run_parts(
        NAMES, count, stage="masks", finished={"part-00002"}, on_part=lambda row: seen.append(row["part"]), out=out
    )
    expected = [name for name in NAMES if name != "part-00002"]
    assert [row["part"] for row in result.statistics] == expected == sorted(seen)
    assert result.skipped == 1
    assert result.total("images") == 80
    assert {row["threads"] for row in result.statistics} == {"1"}
    lines = out.getvalue().splitlines()
    assert lines[0] == "[masks] 8 parts to do, 1 already finished"
    assert "8/8 parts, 80 images" in lines[-1]
    assert "56 accepted, 24 rejected" in lines[-1]


def test_nothing_to_do_starts_nothing() -> None:
    def never(name: str) -> dict[str, int]:
        raise AssertionError(name)

    result = run_parts(NAMES, never, stage="masks", finished=set(NAMES), out=io.StringIO())
    assert result.statistics == []
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
    result = run_parts(NAMES, stage, stage="masks", finished={NAMES[0]}, out=io.StringIO())
    assert [row["part"] for row in result.statistics] == NAMES[1:]
    assert {row["images"] for row in result.statistics} <= {2, 3}
    assert 1 <= len({row["pid"] for row in result.statistics}) <= 2


def test_an_actor_that_cannot_start_says_why_in_the_first_line() -> None:
    def make(names: Sequence[str]) -> Iterator[tuple[str, dict[str, int]]]:
        raise ValueError("the weights file w.pth is empty")
        yield from ()

    stage = OnActors(function=make, actors=1, gpus=0)
    with pytest.raises(
        PartError, match=r"^masks failed on part part-\d+ .*: ValueError: the weights file w\.pth is empty\n"
    ):
        run_parts(NAMES, stage, stage="masks", out=io.StringIO())


def test_the_error_of_a_task_is_raised_as_it_was_raised() -> None:
    def fail() -> None:
        raise ValueError("the weights file w.pth is empty")

    with pytest.raises(ValueError, match=r"^the weights file w\.pth is empty$"):
        get_results([ray.remote(fail).remote()])


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
