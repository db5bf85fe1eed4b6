"""Progress lines of a training, read from its MLflow run, so that they do not depend on where the workers are."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from fss.core.console import EVERY_S, LinePace, clock_text
from fss.tracking.run import Run
from fss.training.few_shot.config import HELD_OUT_IOU, VAL_MIOU
from pipelines.runtime.metric_names import validation_name
from pipelines.runtime.metrics_logger import LOSS, SPEED, WAIT

SCORES = {HELD_OUT_IOU: "held-out IoU", VAL_MIOU: "validation mIoU"}


@contextmanager
def watch(run: Run, stage: str, *, total: int, out: TextIO | None = None) -> Iterator[None]:
    """Print the latest metrics of the run while the block runs, when a line is due (:class:`LinePace`)."""
    stop = threading.Event()
    thread = threading.Thread(
        target=_print_lines, args=(run, stage, total, out or sys.stderr, stop), name="progress", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _print_lines(run: Run, stage: str, total: int, out: TextIO, stop: threading.Event) -> None:
    printed, _ = run.latest_metrics(LOSS)  # of a training that resumes, whose speed then says nothing about now
    print(f"[{stage}] {total} steps, starting the workers", file=out, flush=True)
    seen, latest = printed, time.monotonic()
    pace = LinePace(latest, done=printed)
    while not stop.wait(EVERY_S):
        step, metrics = run.latest_metrics(LOSS)
        now = time.monotonic()
        if step > seen:
            seen, latest = step, now
        if not pace.due(now, seen):
            continue
        words = line(step, total, metrics) if seen > printed else f"no step reported for {clock_text(now - latest)}"
        printed = seen
        print(f"[{stage}] {words}", file=out, flush=True)


def line(step: int, total: int, metrics: dict[str, float]) -> str:
    """Return a progress line: step, loss, speed, scores and remaining time."""
    speed = metrics.get(SPEED, 0.0)
    words = [f"step {step}/{total}", f"loss {metrics[LOSS]:.3f}", f"{speed:.2f} steps/s"]
    words.append(f"{metrics.get(WAIT, 0.0):.0%} waiting for data")
    for score, title in SCORES.items():
        values = [value for name, value in metrics.items() if name.startswith(f"{validation_name(score)}.")]
        words += [f"{title} {max(values):.3f}"] if values else []
    if speed > 0 and step < total:
        words.append(f"{clock_text((total - step) / speed)} left")
    return ", ".join(words)
