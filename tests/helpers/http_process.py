"""Commands that serve HTTP while a test runs."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
"""Folder of the commands of this environment."""
WAIT_S = 180
"""Seconds that a command has to answer."""


def free_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def process(*command: str, port: int, log: Path, **environment: str) -> Iterator[str]:
    """A command that serves HTTP on a port of this machine, ended with the block."""
    url = f"http://127.0.0.1:{port}"
    variables = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment}
    with log.open("w") as out:
        job = subprocess.Popen(command, env=variables, stdout=out, stderr=out, start_new_session=True)
        try:
            deadline = time.monotonic() + WAIT_S
            while not healthy(url):
                assert job.poll() is None, log.read_text()
                assert time.monotonic() < deadline, f"{command[0]} did not answer: {log.read_text()}"
                time.sleep(0.2)
            yield url
        finally:
            os.killpg(job.pid, signal.SIGTERM)
            try:
                job.wait(timeout=30)
            except subprocess.TimeoutExpired:  # on a busy machine
                os.killpg(job.pid, signal.SIGKILL)
                job.wait()


def healthy(url: str) -> bool:
    """Return whether a server answers that it is well."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
