"""One writer per output folder: a lock file with its owner and a sign of life, on a local disk or an object store.

    with hold(output_dir, "a training 'birds'"):
        ...  # nobody else writes into output_dir

The owner renews the file. An owner that has died is replaced: at once if it ran on this machine, else when the file was
not renewed for :data:`EXPIRE_S`, as seen by the clock of who waits. Times in the file are for people: the clock of
another machine may be hours behind or ahead.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fss.core import storage, versioned
from fss.core.json_values import parse_object
from fss.core.temporary import is_alive, process_namespace

LOCK = "lock.json"
"""Name of the lock file in an output folder."""
RENEW_S = 10.0
EXPIRE_S = 60.0
POLL_S = 1.0
_held: dict[str, int] = {}  # how often this process holds each lock file
_held_guard = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who holds an output."""

    id: str
    """Random id of the lock."""
    host: str
    """Name of the machine."""
    process: int
    """Id of the process."""
    started: str
    """What tells the process from another of the same id: the running system, and its start in clock ticks."""
    since: float
    """Time of the lock, in seconds since 1970."""
    renewed: float
    """Time of the last sign of life, in seconds since 1970."""

    @classmethod
    def of_this_process(cls) -> "Owner":
        """Return a new owner."""
        now, process = time.time(), os.getpid()
        started = _start_of(process)
        return cls(
            id=uuid.uuid4().hex, host=socket.gethostname(), process=process, started=started, since=now, renewed=now
        )

    def encode(self) -> bytes:
        """Return the content of the lock file."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    def is_dead(self) -> bool | None:
        """Return whether the process is known to have ended; None for one of another machine or container."""
        if self.started.split(":")[0] != _system():
            return None
        return not is_alive(self.process) or _start_of(self.process) != self.started


@contextmanager
def hold(folder: str, what: str) -> Iterator[None]:
    """Hold an output folder for the length of a block; within a process it may be held several times.

    Args:
        folder: local path or s3:// URI; it is created.
        what: what is written into it, for the message.

    Raises:
        ValueError: another process holds it; the message says which, since when, and what to do.
        OSError: the lock file cannot be written.
    """
    uri = storage.join(storage.absolute_uri(folder), LOCK)
    with _held_guard:
        _held[uri] = _held.get(uri, 0) + 1
        first = _held[uri] == 1
    try:
        if not first:
            yield
            return
        owner = Owner.of_this_process()
        renewal = _Renewal(uri, owner, _acquire(uri, owner, what), what)
        renewal.start()
        try:
            yield
        finally:
            renewal.stop()
    finally:
        with _held_guard:
            _held[uri] -= 1


def _acquire(uri: str, owner: Owner, what: str) -> str:
    """Write the lock file, when an earlier owner has gone, and return its version."""
    waited: tuple[str | None, float] | None = None  # the version of the file, and when it was first seen
    while True:
        data, version = versioned.read(uri)
        other = None if data is None else _decode(data, uri)
        gone = other is None or other.is_dead()
        if gone or (waited and version == waited[0] and time.monotonic() - waited[1] > EXPIRE_S):
            with suppress(versioned.ConflictError):
                return versioned.write(uri, owner.encode(), version)
            continue
        assert other is not None, "a file without an owner is taken"
        if other.is_dead() is False or (waited and version != waited[0]):
            raise ValueError(_refusal(other, uri, what))
        if waited is None:
            waited = version, time.monotonic()
            text = f"waiting up to {EXPIRE_S:.0f} s for a sign of life of process {other.process} on {other.host}"
            print(f"{text}, which writes {what} or was killed", file=sys.stderr, flush=True)
        time.sleep(POLL_S)


def _refusal(other: Owner, uri: str, what: str) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(other.since))
    return (
        f"another job writes {what}: process {other.process} on {other.host}, since {since}. Wait until it ends and "
        "run this again, which continues or finds it finished; stop that process; or give another output or name. "
        f"Delete {uri} only if you know that the process is gone"
    )


class _Renewal:
    """A thread that renews a lock file until it is stopped; then the file is deleted."""

    def __init__(self, uri: str, owner: Owner, version: str, what: str):
        self.uri, self.owner, self.version, self.what = uri, owner, version, what
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lock", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """Delete the file, if it is still that of this process."""
        self._ended.set()
        self._thread.join()
        with suppress(versioned.ConflictError, OSError):
            versioned.delete(self.uri, self.version)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_S):
            renewed = replace(self.owner, renewed=time.time()).encode()
            try:
                with suppress(versioned.ConflictError):
                    self.version = versioned.write(self.uri, renewed, self.version)
                    continue
                if versioned.read(self.uri)[0] is None:  # the job has emptied its folder
                    self.version = versioned.write(self.uri, renewed, None)
                    continue
            except (OSError, versioned.ConflictError):
                continue  # the disk or store may answer the next time
            print(f"error: another process has taken over {self.what} ({self.uri}); this job stops", file=sys.stderr)
            if callable(signal.getsignal(signal.SIGTERM)):  # a program that ends in order
                os.kill(os.getpid(), signal.SIGTERM)
            return


def _decode(data: bytes, uri: str) -> Owner | None:
    """Return the owner in a lock file; None if it is damaged, so that it counts as none."""
    try:
        values = parse_object(data, uri)
        return Owner(**values)
    except (ValueError, TypeError):
        return None


def _start_of(process: int) -> str:
    """Return the running system and the start of a process; the system alone if the start is not known."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        fields = []
    return f"{_system()}:{fields[19] if fields and fields[0] not in 'ZX' else ''}"


def _system() -> str:
    """Return what is unique to the running system and its process ids: names of machines need not be."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = socket.gethostname()
    return f"{boot}/{process_namespace()}"
