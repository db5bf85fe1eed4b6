"""Human-readable tables: the console that they are printed to, and tables as text."""

import io
import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNLIMITED = 10_000  # columns


def output_console() -> Console:
    """Return a console on standard output, as wide as the terminal, or 140 columns without one.

    Without a terminal, rich falls back to 80 columns and wraps long paths.
    """
    return Console() if sys.stdout.isatty() else Console(width=140)


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, markdown: bool = False) -> str:
    """Return rows below a header as plain text with aligned columns, or as a Markdown table; a cell never folds."""
    table = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD, show_edge=markdown, pad_edge=markdown)
    for name in header:
        table.add_column(Text(name), no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=_UNLIMITED, color_system=None)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "".join(f"{line}\n" for line in lines if line)
