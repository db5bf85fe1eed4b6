"""How a command ends, the same for ``fss`` and for every job.

====  =======================================================================
0     done
1     the program or the machine failed; the last line says what, the lines above where
2     a mistake in what was asked: one line says what came, what is allowed and what to do
3     done, but some pictures or checks failed; they are listed
130   interrupted (Ctrl-C): what was written is whole, and the same command goes on
====  =======================================================================

``FSS_TRACEBACK=1`` shows where a mistake was found, too.
"""

import atexit
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from fss.core.redaction import redact_passwords

SUCCESS, FAILURE, USAGE_ERROR, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130
INTERRUPTION = "interrupted; start it again with the same settings to go on from here"


@contextmanager
def exit_cleanly(program: str) -> Iterator[None]:
    """Turn what goes wrong in a block into one last line and an exit code, which no later Ctrl-C changes."""
    try:
        yield
    except ValueError as error:
        if os.environ.get("FSS_TRACEBACK"):
            traceback.print_exc()
        _leave(program, str(error), USAGE_ERROR)
    except KeyboardInterrupt:
        _leave(program, INTERRUPTION, INTERRUPTED)
    except Exception as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # compiled code has made another error of it
            _leave(program, INTERRUPTION, INTERRUPTED)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            where = f" for {error.filename}" if error.filename else ""
            _leave(program, f"no space left{where}; make room and start it again, what is written stays", FAILURE)
        traceback.print_exc()
        said = str(error).strip().splitlines()
        _leave(program, f"{type(error).__name__}: {said[0] if said else ''}", FAILURE)
    finally:
        # All is done: only Python's own tearing down, which can take a second, is left to interrupt.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def import_interrupt_hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in one line that Ctrl-C came while a program's modules were imported: a ``sys.excepthook``.

    Python ends such a program by the signal itself, which a shell reports as 130, too.
    """
    if issubclass(kind, KeyboardInterrupt):
        print(f"error: {INTERRUPTION}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


@contextmanager
def defer_interrupts() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back in a block, until what it yields is called; a second Ctrl-C is not held back.

    Python raises KeyboardInterrupt wherever it is, and compiled functions that call each other may lose it.
    """
    came = False

    def hold(*_: object) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # Python tells no other thread of signals
        yield check
        return
    before = signal.signal(signal.SIGINT, hold)
    try:
        yield check
        check()
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(program: str, message: str, code: int) -> None:
    print(f"{program}: error: {redact_passwords(message)}", file=sys.stderr, flush=True)
    raise SystemExit(code)
