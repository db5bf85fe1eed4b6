"""Progress lines of a pass over parts: finished parts, images per second, counts, and the remaining time."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TextIO

EVERY_S = 10.0
WINDOW_S = 60.0  # the remaining time follows from the last minute, without the start-up


class PartProgress:
    """Counts parts as they arrive and prints a line every ten seconds."""

    def __init__(
        self, stage: str, *, parts: int, skipped: int, out: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stage, self.parts, self.out, self.clock = stage, parts, out, clock
        self.counts = dict.fromkeys(("images", "accepted", "rejected", "errors"), 0)
        self.finished = 0
        self.start = self.printed = clock()
        self.recent: deque[tuple[float, int, int]] = deque()  # time, finished parts and images after each part
        note = f", {skipped} already finished" if skipped else ""
        self._print(f"{parts} parts to do{note}")

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return self.clock() - self.start

    def add(self, row: Mapping[str, Any]) -> None:
        """Add the statistics of one part, and print a line if ten seconds have passed."""
        now = self.clock()
        self.finished += 1
        for name in self.counts:
            self.counts[name] += int(row.get(name, 0))
        self.recent.append((now, self.finished, self.counts["images"]))
        while len(self.recent) > 2 and self.recent[0][0] < now - WINDOW_S:
            self.recent.popleft()
        if now - self.printed >= EVERY_S:
            self.printed = now
            self._print(self._line())

    def close(self) -> None:
        """Print the last line."""
        if self.parts:
            self._print(self._line())

    def _line(self) -> str:
        seconds = max(self.seconds(), 1e-6)
        complete = self.finished == self.parts
        per_part, per_second = (seconds / max(self.finished, 1), self.counts["images"] / seconds)
        if not complete and len(self.recent) > 1 and self.recent[-1][0] > self.recent[0][0]:
            (before, parts, images), (now, parts_now, images_now) = self.recent[0], self.recent[-1]
            per_part, per_second = (now - before) / (parts_now - parts), (images_now - images) / (now - before)
        words = [f"{self.finished}/{self.parts} parts"]
        if self.counts["images"]:
            words.append(f"{self.counts['images']:,} images, {per_second:.1f} images/s")
        if self.counts["accepted"] or self.counts["rejected"]:
            words.append(f"{self.counts['accepted']:,} accepted, {self.counts['rejected']:,} rejected")
        if self.counts["errors"]:
            words.append(f"{self.counts['errors']:,} without a mask")
        remaining = (self.parts - self.finished) * per_part
        words.append(f"took {_clock(seconds)}" if complete else f"{_clock(remaining)} left")
        return ", ".join(words)

    def _print(self, text: str) -> None:
        print(f"[{self.stage}] {text}", file=self.out, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
