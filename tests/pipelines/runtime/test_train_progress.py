"""Progress lines of a training."""

import io
import time
from typing import cast

import pytest

from fss.core import console
from fss.tracking.run import Run
from pipelines.runtime import train_progress
from pipelines.runtime.metrics_logger import LOSS, SPEED, WAIT


class LoggedRun:
    """A run whose metrics somebody logs."""

    def __init__(self, step: int) -> None:
        self.step = step

    def latest_metrics(self, metric: str) -> tuple[int, dict[str, float]]:
        return self.step, {metric: 0.25, SPEED: 0.5, WAIT: 0.1}


def test_a_training_that_resumes_prints_only_new_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_progress, "EVERY_S", 0.01)
    monkeypatch.setattr(console, "EVERY_S", 0.01)
    out, run = io.StringIO(), LoggedRun(step=20)
    with train_progress.watch(cast(Run, run), "train", total=100, out=out):
        time.sleep(0.2)
        assert out.getvalue() == "[train] 100 steps, starting the workers\n"
        run.step = 40
        time.sleep(0.2)
    new = "[train] step 40/100, loss 0.250, 0.50 steps/s, 10% waiting for data, 2:00 left\n"
    assert out.getvalue().endswith(new) and out.getvalue().count("step ") == 1


def test_a_training_without_news_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_progress, "EVERY_S", 0.01)
    monkeypatch.setattr(console, "EVERY_S", 0.01)
    monkeypatch.setattr(console, "_IDLE_S", 0.05)
    out = io.StringIO()
    with train_progress.watch(cast(Run, LoggedRun(step=20)), "train", total=100, out=out):
        time.sleep(0.3)
    lines = out.getvalue().splitlines()
    assert 1 < len(lines) < 6 and set(lines[1:]) == {"[train] no step reported for 0:00"}


def test_the_time_left_may_be_days() -> None:
    assert train_progress.line(100, 100_000, {LOSS: 0.1, SPEED: 0.5}).endswith(", 55:30:00 left")


def test_a_line_has_the_best_score() -> None:
    scores = {"val/held_out_iou.1-shot": 0.4, "val/held_out_iou.5-shot": 0.5}
    line = train_progress.line(9, 9, {LOSS: 0.1, **scores})
    assert line == "step 9/9, loss 0.100, 0.00 steps/s, 0% waiting for data, held-out IoU 0.500"
