"""Exit codes, shared by ``fss`` and every job.

====  =======================================================================
0     success
1     the program or the machine failed; the last line says why, the traceback above it where
2     invalid usage; one line says what was given, what is allowed and what to do
3     finished, but some images or checks failed; the output lists them
130   interrupted (Ctrl-C); files on disk are complete, and the same command resumes
141   the reader of the output closed the pipe, as ``head`` does
====  =======================================================================

``FSS_TRACEBACK=1`` also prints a traceback for invalid usage.
"""

import atexit
import errno
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from fss.core.redaction import redact_passwords

SUCCESS, FAILURE, USAGE_ERROR, PARTIAL, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 130, 141
INTERRUPTION = "interrupted; run it again with the same settings to resume"


@contextmanager
def exit_cleanly(program: str) -> Iterator[None]:
    """Turn an exception in the block into one line on standard error and an exit code.

    A Ctrl-C after the block no longer changes the exit code.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # an error here would otherwise come in the interpreter's shutdown
    except ValueError as error:
        if os.environ.get("FSS_TRACEBACK"):
            traceback.print_exc()
        _exit(program, _message(error), USAGE_ERROR)
    except KeyboardInterrupt:
        _exit(program, INTERRUPTION, INTERRUPTED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            # The interpreter flushes the rest of the buffer at exit: https://docs.python.org/3/library/signal.html
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(PIPE_CLOSED) from None
        if isinstance(error.__cause__, KeyboardInterrupt):  # compiled code wrapped the interrupt in another error
            _exit(program, INTERRUPTION, INTERRUPTED)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            target = f" for {error.filename}" if error.filename else ""
            _exit(program, f"no space left{target}; free some space and run it again to resume", FAILURE)
        traceback.print_exc()
        lines = str(error).strip().splitlines()
        _exit(program, f"{type(error).__name__}: {lines[0] if lines else ''}", FAILURE)
    finally:
        # Only the interpreter's shutdown is left, which can take a second; an interrupt there would change the code.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def import_interrupt_hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report a Ctrl-C during a program's imports in one line; install it as ``sys.excepthook``.

    Python then ends the process by the signal itself, which a shell also reports as 130.
    """
    if issubclass(kind, KeyboardInterrupt):
        print(f"error: {INTERRUPTION}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


@contextmanager
def defer_interrupts() -> Iterator[Callable[[], None]]:
    """Defer Ctrl-C within the block until the yielded function is called; a second Ctrl-C interrupts at once.

    Python raises KeyboardInterrupt at any bytecode, and nested compiled functions may swallow it.
    """
    interrupted = False

    def hold(*_: object) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    def check() -> None:
        if interrupted:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread only
        yield check
        return
    previous = signal.signal(signal.SIGINT, hold)
    try:
        yield check
        check()
    finally:
        signal.signal(signal.SIGINT, previous)


def _reader_is_gone() -> bool:
    """Return whether standard output is a pipe that nobody reads; a broken connection to a server is another error."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _message(error: ValueError) -> str:
    """Return an error's message, that of invalid settings in one line."""
    import pydantic

    from fss.core.config import describe

    return describe(error) if isinstance(error, pydantic.ValidationError) else str(error)


def _exit(program: str, message: str, code: int) -> None:
    print(f"{program}: error: {redact_passwords(message)}", file=sys.stderr, flush=True)
    raise SystemExit(code)
