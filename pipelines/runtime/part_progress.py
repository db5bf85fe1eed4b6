"""Progress lines of a pass over parts: finished parts, images per second, counts, and the remaining time.

:class:`fss.core.console.LinePace` says when a line comes. While no part is finished, the remaining time grows.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from fss.core.console import EVERY_S, LinePace, clock_text

STEP_S = 0.1  # resolution of the last minute, in which 500,000 parts may be finished
WAITING_S = 5.0  # seconds without a machine before the pass says so
WINDOW_S = 60.0  # the remaining time follows from the last minute, without the start-up

_OUTCOMES = {"ingest": ("usable", "unusable"), "pseudomask": ("masks pass all checks", "fail a check")}
"""What ``accepted`` and ``rejected`` count, by the first word of the stage.

Which masks are used is decided later, by the acceptance.
"""


class PartProgress:
    """Counts parts as they arrive and prints the lines."""

    def __init__(
        self, stage: str, *, parts: int, skipped: int, out: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stage, self.parts, self.out, self.clock = stage, parts, out, clock
        self.counts = dict.fromkeys(("images", "accepted", "rejected", "errors"), 0)
        self.finished = 0
        self.failed = 0
        """Number of parts that have failed and are not finished."""
        self.start = clock()
        self.pace = LinePace(self.start)
        self.running: int | None = None
        """Number of processes that make parts; None where this process makes them."""
        self.recent: deque[tuple[float, int, int]] = deque()  # time, finished parts and images then
        self.closed = self._told_to_wait = False
        note = f", {skipped} already finished" if skipped else ""
        self._print(f"{parts:,} {'part' if parts == 1 else 'parts'} to do{note}")

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return self.clock() - self.start

    def add(self, row: Mapping[str, Any]) -> None:
        """Add the statistics of one part, and print a line if one is due."""
        now = self.clock()
        self.finished += 1
        for name in self.counts:
            self.counts[name] += int(row.get(name, 0))
        if len(self.recent) > 1 and now - self.recent[-2][0] < STEP_S:
            self.recent.pop()
        self.recent.append((now, self.finished, self.counts["images"]))
        while len(self.recent) > 2 and self.recent[0][0] < now - WINDOW_S:
            self.recent.popleft()
        self._heartbeat(now)

    def tick(self, running: int, *, waits_for: str | None = None) -> None:
        """Print a line if one is due, and once that the pass waits for a machine.

        Args:
            running: number of processes that make parts.
            waits_for: resources, in words, that a machine has to have. None: the pass does not wait for machines.
        """
        now, self.running = self.clock(), running
        if waits_for and not running and not self._told_to_wait and now - max(self.start, self._latest()) >= WAITING_S:
            self._told_to_wait = True
            self._print(f"waiting for a machine with {waits_for}; the job goes on when there is one")
        self._heartbeat(now)

    def note(self, text: str) -> None:
        """Print a line."""
        self._print(text)

    def close(self) -> None:
        """Print the last line."""
        self.closed = True
        if self.parts:
            self._print(self._line())

    def _latest(self) -> float:
        """Return the time of the last finished part, or of the start."""
        return self.recent[-1][0] if self.recent else self.start

    def _heartbeat(self, now: float) -> None:
        if self.finished < self.parts and self.pace.due(now, self.finished):  # the last line is that of close
            self._print(self._line())

    def _line(self) -> str:
        now, seconds = self.clock(), max(self.seconds(), 1e-6)
        complete = self.finished == self.parts
        per_part, per_second = seconds / max(self.finished, 1), self.counts["images"] / seconds
        if not complete and len(self.recent) > 1 and now > self.recent[0][0]:
            before, parts, images = self.recent[0]
            # Up to the present, so that the time left grows while no part is finished.
            per_part = (now - before) / (self.finished - parts)
            per_second = (self.counts["images"] - images) / (now - before)
        words = [f"{self.finished}/{self.parts} parts"]
        if self.counts["images"]:
            words.append(f"{self.counts['images']:,} images, {per_second:.1f} images/s")
        if self.counts["accepted"] or self.counts["rejected"]:
            passing, failing = _OUTCOMES.get(self.stage.split()[0], _OUTCOMES["pseudomask"])
            words.append(f"{self.counts['accepted']:,} {passing}, {self.counts['rejected']:,} {failing}")
        if self.counts["errors"]:
            words.append(f"{self.counts['errors']:,} without a mask")
        if self.failed:
            words.append(f"{self.failed:,} failed so far" if not self.closed else f"{self.failed:,} failed")
        if not self.closed and now - self._latest() >= EVERY_S:
            words.append(f"no part finished for {clock_text(now - self._latest())}")
            if self.running is not None:
                words.append(
                    f"processes at work: {self.running:,}" if self.running else "no process has started on them"
                )
        if complete or self.closed:
            words.append(f"took {clock_text(seconds)}")
        elif self.finished:
            words.append(f"{clock_text((self.parts - self.finished) * per_part)} left")
        return ", ".join(words)

    def _print(self, text: str) -> None:
        print(f"[{self.stage}] {text}", file=self.out, flush=True)
