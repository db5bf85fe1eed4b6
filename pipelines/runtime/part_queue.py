"""The parts that a pass still has to make: which come next, how often each has failed, and which are given up.

A part that fails is tried again after all others. A process that dies with several parts says nothing about the one at
fault, so each of them is then made in a call of its own.
"""

from collections import Counter, deque
from collections.abc import Sequence

TRIES = 3  # tries of a part before it is given up
LOSSES = 10  # machines that a part may lose without blame; spot machines come and go
MANY = 5  # failures that stop a pass early if they outnumber the finished parts


class PartQueue:
    """Hands out part names until each is finished or given up."""

    def __init__(self, names: Sequence[str]) -> None:
        self.failures: dict[str, str] = {}
        """Last failures of the parts that have failed and are not finished."""
        self.finished = 0
        """Number of finished parts."""
        self._first = deque(names)
        self._alone: deque[str] = deque()
        self._again: deque[str] = deque()
        self._tries: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._first) + len(self._alone) + len(self._again)

    @property
    def given_up(self) -> dict[str, str]:
        """Parts that failed in every try, with the text of their last failure."""
        return {name: reason for name, reason in self.failures.items() if self._tries[name] >= TRIES}

    def take(self, count: int) -> list[str]:
        """Take the names of the next call, at most ``count``."""
        if self._alone:
            return [self._alone.popleft()]
        if self._first:
            return [self._first.popleft() for _ in range(min(count, len(self._first)))]
        return [self._again.popleft()]

    def finish(self, name: str) -> None:
        """Note a finished part."""
        self.finished += 1
        self.failures.pop(name, None)

    def fail(self, name: str, reason: str) -> None:
        """Count a failure of a part; it comes again at the end, or is given up."""
        self._tries[name] += 1
        self.failures[name] = reason
        if self._tries[name] < TRIES:
            self._again.append(name)

    def crash(self, names: Sequence[str], reason: str, *, machine_lost: bool) -> None:
        """Return the names of a call whose process died."""
        for name in names:
            self._losses[name] += machine_lost
            if machine_lost and self._losses[name] <= LOSSES:
                self._first.appendleft(name)
            elif len(names) == 1 or machine_lost:
                self.fail(name, reason)
            else:
                self._alone.append(name)

    def hopeless(self, allowed: int) -> bool:
        """Return whether more parts fail than finish and than the ``allowed`` ones; the others would fail too."""
        return len(self.failures) >= max(MANY, allowed + 1, self.finished + 1)
