"""Exit codes, shared by ``fss`` and every job.

====  =======================================================================
0     success
1     the program or the machine failed; the last line says why, the traceback above it where
2     invalid usage; one line says what was given, what is allowed and what to do
3     finished, but some images or checks failed; the output lists them
129   stopped by SIGHUP, as a closed terminal does (not under ``nohup``); the same command goes on as after an interrupt
130   interrupted (Ctrl-C); files on disk are complete, and the same command resumes a job, or repeats a verb of ``fss``
141   the reader of the output closed the pipe, as ``head`` does
143   stopped by SIGTERM, as ``ray job stop``, Kubernetes and spot machines do; the same command goes on as after an
      interrupt
====  =======================================================================

``FSS_TRACEBACK=1`` also prints a traceback for invalid usage.
"""

import atexit
import io
import os
import select
import signal
import stat
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from fss.core.extras import explain, extra_of
from fss.core.printable import printable
from fss.core.redaction import redact_passwords
from fss.core.storage_errors import explain_storage_error

SUCCESS, FAILURE, USAGE_ERROR, PARTIAL, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 130, 141
HUNG_UP, TERMINATED = 129, 143
RESUME, REPEAT = "run it again with the same settings to resume", "run it again to start from the beginning"

_ENDS = (signal.SIGTERM, signal.SIGHUP)
_received: set[int] = set()
"""Those that came: Ray, waiting in compiled code, raises KeyboardInterrupt in place of a handler's error."""


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM or SIGHUP: as after Ctrl-C, files are complete, and the same command resumes."""


@contextmanager
def exit_cleanly(program: str, *, advice: str = RESUME) -> Iterator[None]:
    """Turn an exception in the block into one line on standard error and an exit code.

    Within the block, SIGTERM raises :class:`Terminated`, and so does SIGHUP if it is not ignored. A signal after the
    block does not change the exit code. After one in the block, ``advice`` says what to do. Standard streams that are
    closed read and write nothing, and characters that standard output's encoding lacks become escape sequences.
    """
    _prepare_streams()
    if threading.current_thread() is threading.main_thread():
        _received.clear()
        for number in _heeded():
            signal.signal(number, _raise_terminated)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # an error here would otherwise come in the interpreter's shutdown
    except ValueError as error:
        if os.environ.get("FSS_TRACEBACK"):
            traceback.print_exc()
        _exit(program, _message(error), USAGE_ERROR)
    except KeyboardInterrupt as interrupt:
        _exit_interrupted(program, interrupt, advice)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            # The interpreter flushes the rest of the buffer at exit: https://docs.python.org/3/library/signal.html
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(PIPE_CLOSED) from None
        if isinstance(error.__cause__, KeyboardInterrupt):  # compiled code wrapped the interrupt in another error
            _exit_interrupted(program, error.__cause__, advice)
        if explanation := explain_storage_error(error):
            _exit(program, explanation, FAILURE)
        if isinstance(error, ModuleNotFoundError) and (extra := extra_of(error.name)):
            _exit(program, explain("this", str(error.name), extra), USAGE_ERROR)
        traceback.print_exc()
        lines = str(error).strip().splitlines()
        _exit(program, f"{type(error).__name__}: {lines[0] if lines else ''}", FAILURE)
    finally:
        # Only the interpreter's shutdown is left, which can take a second; an interrupt there would change the code.
        for number in (signal.SIGINT, *_ENDS):
            atexit.register(signal.signal, number, signal.SIG_IGN)


@contextmanager
def defer_interrupts(
    announce: Callable[[], None] = lambda: None, *, seconds: float | None = None
) -> Iterator[Callable[[], None]]:
    """Defer Ctrl-C, SIGTERM and SIGHUP in the block until the yielded function is called; a second one acts at once.

    Python raises KeyboardInterrupt at any bytecode, and nested compiled functions may swallow it.

    Args:
        announce: called in a thread of its own at the first interrupt.
        seconds: time after which the first one interrupts too; None: the block takes its time.
    """
    interrupt: type[KeyboardInterrupt] | None = None

    def hold(number: int, _: object) -> None:
        nonlocal interrupt
        if interrupt:
            raise interrupt
        interrupt = KeyboardInterrupt if number == signal.SIGINT else Terminated
        if interrupt is Terminated:
            _receive(number)
        threading.Thread(target=announce, daemon=True).start()
        if seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))

    def check() -> None:
        if interrupt:
            raise interrupt

    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread only
        yield check
        return
    numbers = (signal.SIGINT, *_heeded()) + ((signal.SIGALRM,) if seconds is not None else ())
    handlers = {number: signal.signal(number, hold) for number in numbers}
    try:
        yield check
        check()
    finally:
        if seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _prepare_streams() -> None:
    """Open the null device for closed streams: the next files would get their numbers, and what is printed."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _heeded() -> tuple[signal.Signals, ...]:
    """Return the signals that end a program in order; SIGHUP stays ignored under ``nohup``."""
    return (signal.SIGTERM,) if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else _ENDS


def _raise_terminated(number: int, _: object) -> None:
    for each in _ENDS:
        signal.signal(each, signal.SIG_IGN)  # a second one must not disturb the cleaning up
    _receive(number)
    raise Terminated


def _receive(number: int) -> None:
    """Keep which signal came. After SIGHUP, terminals are replaced by the null device, since writing to them fails."""
    _received.add(number)
    if number != signal.SIGHUP:
        return
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode):
                os.dup2(null, stream)
    os.close(null)


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


def _exit_interrupted(program: str, interrupt: KeyboardInterrupt, advice: str) -> None:
    if signal.SIGHUP in _received:
        _exit(program, f"stopped by SIGHUP; {advice}", HUNG_UP)
    if isinstance(interrupt, Terminated) or _received:
        _exit(program, f"stopped by SIGTERM; {advice}", TERMINATED)
    _exit(program, f"interrupted; {advice}", INTERRUPTED)


def _exit(program: str, message: str, code: int) -> None:
    print(f"{program}: error: {printable(redact_passwords(message))}", file=sys.stderr, flush=True)
    raise SystemExit(code)
