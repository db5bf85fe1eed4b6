"""Human-readable output: the console of tables, tables as text, and progress."""

import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from fss.core.printable import markdown_text, printable

T = TypeVar("T")
_UNLIMITED = 10_000  # columns
EVERY_S = 10.0  # between lines of progress in the first quarter of an hour
_SHARE = 0.01  # of the time so far between later lines
_IDLE_S = 60.0  # without news, after which a line says so
_MOST_S = 300.0  # between lines, if there is news or not


class LinePace:
    """Tells when the next line of progress is due, so that the log of a long job stays short.

    Lines come every ten seconds, and later after a hundredth of the time so far. A line without news comes after a
    minute, and then each after twice the time. No wait is longer than five minutes.
    """

    def __init__(self, now: float, *, done: int = 0) -> None:
        self._start = self._printed = now
        self._done = done
        self._idle_s = _IDLE_S

    def due(self, now: float, done: int) -> bool:
        """Return whether a line is due, which the caller then prints; ``done`` counts what is finished."""
        wait = min(max(EVERY_S, _SHARE * (now - self._start)), _MOST_S)
        news = done != self._done
        if now - self._printed < (wait if news else max(wait, self._idle_s)):
            return False
        self._idle_s = _IDLE_S if news else min(2 * self._idle_s, _MOST_S)
        self._printed, self._done = now, done
        return True


def clock_text(seconds: float) -> str:
    """Return a duration as minutes and seconds, such as 4:05, or with hours, such as 30:04:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def output_console() -> Console:
    """Return a console on standard output, as wide as the terminal, or 140 columns without one.

    Without a terminal, rich falls back to 80 columns and wraps long paths.
    """
    return Console() if sys.stdout.isatty() else Console(width=140)


def cell(value: object) -> Text:
    """Return a value for a cell of a table: in one line, without control codes, and not taken for markup."""
    return Text(printable(str(value)))


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, markdown: bool = False) -> str:
    """Return rows below a header as plain text with aligned columns, or as a Markdown table; a cell never folds."""
    table = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD, show_edge=markdown, pad_edge=markdown)
    for name in header:
        table.add_column(Text(name), no_wrap=True)
    for row in rows:
        table.add_row(*(Text(markdown_text(printable(cell)) if markdown else printable(cell)) for cell in row))
    console = Console(file=io.StringIO(), width=_UNLIMITED, color_system=None)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "".join(f"{line}\n" for line in lines if line)


def with_progress(
    items: Iterable[T], what: str, total: int, *, unit: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[T]:
    """Yield items and show the progress on standard error: a bar in a terminal, or else lines (:class:`LinePace`).

    Args:
        items: the items.
        what: description of the work.
        total: number of items.
        unit: name of several items.
        clock: the time in seconds.
    """
    if sys.stderr.isatty():
        yield from track(items, what, total, console=Console(stderr=True))
        return
    start = clock()
    pace = LinePace(start)
    for done, item in enumerate(items, start=1):
        yield item
        now = clock()
        if done < total and pace.due(now, done):
            rate = done / (now - start)
            words = f"{done:,}/{total:,} {unit}, {rate:.1f} a second, {clock_text((total - done) / rate)} left"
            print(f"{what}: {words}", file=sys.stderr, flush=True)
