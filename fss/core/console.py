"""Where tables for people are printed."""

import sys

from rich.console import Console


def output_console() -> Console:
    """Return a console on standard output: as wide as the terminal, or 140 columns where there is none.

    Without a terminal rich falls back to 80 columns and folds every path.
    """
    return Console() if sys.stdout.isatty() else Console(width=140)
