"""Human-readable output: the console of tables, tables as text, and progress."""

import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from fss.core.printable import markdown_text, printable

T = TypeVar("T")
_UNLIMITED = 10_000  # columns
_EVERY_S = 10.0  # between lines of progress


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
    """Yield items and show the progress on standard error: a bar in a terminal, or else a line every ten seconds.

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
    start = printed = clock()
    for done, item in enumerate(items, start=1):
        yield item
        now = clock()
        if now - printed >= _EVERY_S and done < total:
            printed, rate = now, done / (now - start)
            left = timedelta(seconds=round((total - done) / rate))
            print(f"{what}: {done:,}/{total:,} {unit}, {rate:.1f} a second, {left} left", file=sys.stderr, flush=True)
