"""A Ctrl-C while a program is imported, in one line; this module imports nothing that takes time."""

import sys
from types import TracebackType


def import_interrupt_hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report a Ctrl-C during a program's imports in one line; install it as ``sys.excepthook``.

    Python then ends the process by the signal itself, which a shell also reports as 130.
    """
    if issubclass(kind, KeyboardInterrupt):
        print("error: interrupted before it began; run it again", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
