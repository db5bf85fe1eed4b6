"""The server of the page."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from fss.app import server
from fss.core.exit_codes import HUNG_UP, TERMINATED
from tests.helpers.http_process import free_port

ROOT = Path(__file__).parents[3]


class Fetched:
    """Stands for a page that a program fetches without running its script."""

    tab_id = None

    async def connected(self) -> None:
        """Return as NiceGUI does when it gives up."""


def test_a_page_that_never_connects_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    monkeypatch.setattr(server, "Page", lambda *words: built.append(words))
    asyncio.run(server.show(cast(Any, None), cast(Any, Fetched()), "run"))
    assert not built


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", TERMINATED), ("SIGHUP", HUNG_UP)])
def test_a_tab_without_a_web_socket_does_not_delay_the_end(name: str, code: int, tmp_path: Path) -> None:
    port = free_port()
    script = (
        "from types import SimpleNamespace\nfrom fss.core.exit_codes import exit_cleanly\n"
        "with exit_cleanly('fss app'):\n"
        "    from fss.app.server import serve\n"
        "    workspace = SimpleNamespace(end=lambda: print('searches are stopped', flush=True))\n"
        f"    serve(workspace, host='127.0.0.1', port={port}, token=None)\n"
    )
    address = f"http://127.0.0.1:{port}/_nicegui_ws/socket.io/?EIO=4&transport=polling"

    def wait_for_news(tab: str) -> None:
        with suppress(OSError):
            urllib.request.urlopen(f"{address}&sid={tab}", timeout=60).read()

    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}  # NiceGUI looks for them
    environment["PYTHONPATH"] = str(ROOT)
    words = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    heeded = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # also if the tests run under nohup
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True, preexec_fn=heeded
    ) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("open ")
        tab = re.search('"sid":"([^"]+)"', _fetch(address))
        assert tab is not None
        threading.Thread(target=wait_for_news, args=(tab[1],), daemon=True).start()
        time.sleep(0.5)
        begin = time.monotonic()
        process.send_signal(getattr(signal, name))
        assert process.wait(60) == code
        assert time.monotonic() - begin < 15, "such a request lasts 24 s"
        assert "searches are stopped" in process.stdout.read()
        assert process.stderr is not None and "Traceback" not in process.stderr.read()


def _fetch(address: str) -> str:
    """Return an answer of a server that may not listen yet."""
    for _ in range(100):
        with suppress(OSError):
            return str(urllib.request.urlopen(address, timeout=10).read().decode())
        time.sleep(0.1)
    raise TimeoutError(address)
