"""A training that is told to stop writes a last checkpoint after the step in hand; without Ray."""

import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fss.core.exit_codes import Terminated
from pipelines.runtime import stopping
from pipelines.runtime.steps import every, run_steps
from pipelines.runtime.stopping import stop_requested, stop_uri, stoppable

CPU = torch.device("cpu")


class Writer:
    def __init__(self) -> None:
        self.steps: list[int] = []
        self.saved: list[tuple[int, bool]] = []

    def add(self, report: Any) -> None:
        self.steps.append(report.step)

    def save(self, *, validate: bool = True) -> None:
        self.saved.append((self.steps[-1], validate))


@pytest.mark.parametrize(
    ("stop_after", "steps", "saved"),
    [
        (0, 0, []),
        (5, 5, [(4, True), (5, False)]),
        (8, 8, [(4, True), (8, True)]),
        (99, 9, [(4, True), (8, True), (9, True)]),
    ],
)
def test_a_stop_is_heeded_after_a_step_and_saves_once(
    stop_after: int, steps: int, saved: list[tuple[int, bool]]
) -> None:
    writer = Writer()
    reports: Any = (SimpleNamespace(step=step) for step in range(1, 10))
    run_steps(reports, writer, due=every(4, last=9), stop=lambda: len(writer.steps) >= stop_after)
    assert (len(writer.steps), writer.saved) == (steps, saved)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_the_driver_asks_the_workers_and_waits_for_them(
    number: signal.Signals, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "POLL_S", 0.01)
    stale = Path(stop_uri(str(tmp_path), "t"))
    stale.touch()  # of a driver that was killed
    workers = []
    with pytest.raises(error) as raised, stoppable(str(tmp_path), "t", seconds=30):
        assert not stale.exists()
        with stop_requested(str(stale), CPU) as stop:
            assert not stop()
            signal.raise_signal(number)
            while not stop():
                time.sleep(0.01)
            workers.append("stopped")
    assert workers == ["stopped"] and type(raised.value) is error
    assert not stale.exists()


def test_a_training_that_does_not_stop_in_time_is_interrupted(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Terminated), stoppable(str(tmp_path), "t", seconds=0.05):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(20)
    assert time.monotonic() - began < 5
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_second_interrupt_is_heeded_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), stoppable(str(tmp_path), "t", seconds=30):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        time.sleep(20)
