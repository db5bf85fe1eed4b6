"""The console that human-readable tables are printed to."""

import sys

from rich.console import Console


def output_console() -> Console:
    """Return a console on standard output, as wide as the terminal, or 140 columns without one.

    Without a terminal, rich falls back to 80 columns and wraps long paths.
    """
    return Console() if sys.stdout.isatty() else Console(width=140)
