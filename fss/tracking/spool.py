"""A spool of log entries on the local disk, so that a job outlasts its MLflow store.

Every process of a job appends what it logs to a file of its own in the job's spool folder, and a thread sends it to the
store in order. Nothing here raises. While the store is away, the thread tries again every few seconds. A spool of an
output in an object store is in the temporary folder; what the store does not take is copied into the output.

Files are kept until the run has finished, because they tell a resumed training which steps are logged.
"""

import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import fs as pafs

from fss.core import storage
from fss.tracking.delivery import OPENING, Delivery, Entry, NotYetError, parse_entries, request_length
from fss.tracking.store import is_refusal, reason, say

FOLDER = "tracking"
"""Name of the spool folder in a job's output."""
ENTRIES, SENT = ".jsonl", ".sent"
RETRY_S = 5.0
IDLE_S = 30.0
READ_S = 10.0
"""Seconds that a job waits for an answer of the store which it can do without."""

Result = TypeVar("Result")


class Spool:
    """The entries of this process in one spool folder."""

    def __init__(self, uri: str, store: str):
        """Describe the spool; its folder is created with the first entry.

        Args:
            uri: spool folder, local or in an object store.
            store: URI of the MLflow store.
        """
        self.uri, self.store, self.folder = uri, store, local_folder(uri)
        self.path = self.folder / f"{time.time_ns():020d}-{os.getpid()}-{uuid.uuid4().hex[:6]}{ENTRIES}"
        self.problem, self.refused = "", list[str]()
        self.blocked = False  # an entry waits for a run that another process opens
        self._waiting: deque[tuple[Entry, int | None]] = deque()
        self._changed, self._retry = threading.Condition(), threading.Event()
        self._thread: threading.Thread | None = None
        self._torn, self._mirrored = False, set[str]()

    def put(self, entry: Mapping[str, Any], content: bytes | None = None) -> None:
        """Append an entry, and the content of its file, and send them soon."""
        if content is not None:
            file = self.folder / f"{uuid.uuid4().hex}.bin"
            entry = {**entry, "content": str(file)}
            with suppress(OSError):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        with self._changed:
            self._waiting.append((entry, self._append(json.dumps(entry).encode() + b"\n")))
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_forever, name="mlflow", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until everything is sent, and return whether it is."""
        self._retry.set()
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout)

    def ask(self, question: Callable[[Delivery], Result], timeout: float = READ_S) -> Result | None:
        """Return the store's answer; None if it is known to be away, or does not answer in time."""
        if self.problem:
            return None
        try:
            return within(timeout, lambda: question(Delivery(self.store)))
        except Exception as error:
            if not is_refusal(error) and not isinstance(error, NotYetError):
                self._report(error)
            return None

    def open(self, entry: Mapping[str, Any], timeout: float) -> str:
        """Open the run of an entry and return its id, or its local id if the store gets the entry later."""
        late = threading.Event()

        def open_in_time(delivery: Delivery) -> str:
            with OPENING:
                if late.is_set():  # the entry waits to be sent
                    raise TimeoutError
                return delivery.open(entry)

        run_id = self.ask(open_in_time, timeout)
        if run_id is None:
            late.set()
            self.put(entry)
            return str(entry["run"])
        return run_id

    def _append(self, line: bytes) -> int | None:
        """Append a line to the file and return the file's size; None if the disk does not take it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(b"\n" + line if self._torn else line)
            self._torn = False
            return self.path.stat().st_size
        except OSError as error:
            if not self._torn:
                say(f"{self.path} cannot be written ({error}); what MLflow does not take is lost with this process")
            self._torn = True
            return None

    def _send_forever(self) -> None:
        delivery = None
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: bool(self._waiting), IDLE_S):
                    self._thread = None  # the next entry starts another
                    return
                entries = [entry for entry, _ in islice(self._waiting, 1000)]
            entries = entries[: request_length(entries)]
            try:
                delivery = delivery or Delivery(self.store)
                self.refused += send(delivery, entries)
            except Exception as error:  # of whatever kind: a training goes on
                self.blocked = isinstance(error, NotYetError)
                if not self.blocked:
                    self._report(error)
                self.mirror()
                self._retry.clear()
                self._retry.wait(RETRY_S)
                continue
            self._confirm(len(entries))

    def _confirm(self, count: int) -> None:
        with self._changed:
            ends = [self._waiting.popleft()[1] for _ in range(count)]
            if self.problem:
                say("MLflow answers again")
            self.problem, self.blocked = "", False
            if known := [end for end in ends if end is not None]:
                with suppress(OSError):
                    write_sent(self.path, known[-1])
            self._changed.notify_all()

    def _report(self, error: Exception) -> None:
        if not self.problem:
            say(f"MLflow does not answer ({reason(error)}); what it misses is kept in {self.folder} and sent later")
        self.problem = reason(error)

    def mirror(self) -> None:
        """Copy the entries of a spool in an object store there, since the disk of this machine may not last."""
        if not storage.is_remote(self.uri):
            return
        filesystem, path = storage.resolve(self.uri)
        contents = [file for file in self.folder.glob("*.bin") if file.name not in self._mirrored]
        for file in (self.path, self.path.with_suffix(SENT), *contents):
            with suppress(OSError):
                storage.write_atomically(filesystem, f"{path}/{file.name}", file.read_bytes())
                self._mirrored.add(file.name)


_SPOOLS: dict[tuple[int, str, str], Spool] = {}
_LOCK = threading.Lock()


def open_spool(uri: str, store: str) -> Spool:
    """Return this process's spool in a folder."""
    with _LOCK:
        return _SPOOLS.setdefault((os.getpid(), uri, store), Spool(uri, store))


def local_folder(uri: str) -> Path:
    """Return the local folder of a spool: itself, or a temporary one if it is in an object store."""
    if not storage.is_remote(uri):
        return Path(storage.absolute_uri(uri))
    return Path(tempfile.gettempdir()) / f"fss-tracking-{hashlib.sha256(uri.encode()).hexdigest()[:16]}"


def send(delivery: Delivery, entries: Sequence[Entry]) -> list[str]:
    """Send entries of one request, and return why the store has refused some of them, which no repetition changes."""
    try:
        delivery.send(entries)
    except Exception as error:
        if not is_refusal(error):
            raise
        if len(entries) > 1:
            return [why for entry in entries for why in send(delivery, [entry])]
        return [reason(error)]
    return []


def entry_files(folder: Path) -> list[Path]:
    """Return the files with entries in a local spool folder, the oldest first."""
    return sorted(folder.glob(f"*{ENTRIES}"))


def read_entries(path: Path, start: int = 0) -> Iterator[tuple[Entry, int]]:
    """Yield the entries of a file behind byte ``start``, each with the byte where it ends."""
    data = path.read_bytes()[start:]
    lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
    for line, entry in zip(lines, parse_entries(lines), strict=True):
        start += len(line)
        if entry is not None:
            yield entry, start


def sent_bytes(path: Path) -> int:
    """Return how many bytes of a file the store has confirmed."""
    try:
        return int(path.with_suffix(SENT).read_text())
    except (OSError, ValueError):
        return 0


def write_sent(path: Path, size: int) -> None:
    """Record how many bytes of a file the store has confirmed."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(str(size))
    temporary.replace(path.with_suffix(SENT))


def logged_metrics(folder: Path, run: str) -> dict[str, tuple[int, float]]:
    """Return the last step and value of every metric of a run in a local spool folder, sent or not."""
    last: dict[str, tuple[int, float]] = {}
    for path in entry_files(folder):
        with suppress(OSError):  # another process removes the folder of a finished run
            for entry, _ in read_entries(path):
                if entry["kind"] == "metrics" and entry["run"] == run:
                    for name, value in entry["metrics"].items():
                        if entry["step"] >= last.get(name, (-1, 0.0))[0]:
                            last[name] = (entry["step"], value)
    return last


def fetch(uri: str) -> Path:
    """Return the local folder of a spool, with the files that other machines have copied into the output."""
    folder = local_folder(uri)
    if storage.is_remote(uri):
        filesystem, path = storage.resolve(uri)
        for name in storage.list_names(filesystem, path):
            if not (folder / name).exists():
                storage.write_atomically(*storage.resolve(folder / name), storage.read_bytes(f"s3://{path}/{name}"))
    return folder


def remove(uri: str) -> None:
    """Delete a spool."""
    shutil.rmtree(local_folder(uri), ignore_errors=True)
    if storage.is_remote(uri):
        filesystem, path = storage.resolve(uri)
        if filesystem.get_file_info(path).type == pafs.FileType.Directory:
            filesystem.delete_dir(path)


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """Return the result of a function that may take too long.

    Raises:
        TimeoutError: it has taken longer; its thread goes on in the background.
    """
    results: list[Result] = []
    errors: list[Exception] = []

    def call() -> None:
        try:
            results.append(function())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=call, name="mlflow request", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer for {seconds:g} s")
    return results[0]
