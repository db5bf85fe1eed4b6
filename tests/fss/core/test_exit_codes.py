"""How a program ends where its output's reader is gone, and what it says of invalid settings."""

import errno
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from functools import partial
from pathlib import Path
from typing import Annotated

import pytest
from annotated_types import Ge

from fss.core.config import settings
from fss.core.exit_codes import FAILURE, HUNG_UP, PIPE_CLOSED, TERMINATED, USAGE_ERROR, exit_cleanly


@settings
class Size:
    """A size."""

    side: Annotated[int, Ge(1)] = 1
    """Side in pixels."""


@pytest.mark.parametrize("words", [["--help"], ["inspect", "--help"]])
def test_a_closed_pipe_ends_a_program_quietly(words: list[str]) -> None:
    command = [sys.executable, "-m", "fss.cli.main", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == PIPE_CLOSED


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_closed_stream_is_no_file_of_the_program(number: int, tmp_path: Path) -> None:
    script = (
        "import os\nfrom fss.core.exit_codes import exit_cleanly\n"
        "with exit_cleanly('fss x'):\n"
        f"    file = open({str(tmp_path / 'file')!r}, 'wb', 0)\n"
        "    file.write(b'data'); print('to nobody', flush=True)\n"
        "    raise ValueError('a mistake')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], preexec_fn=partial(os.close, number), stderr=subprocess.PIPE)
    assert ended.returncode == USAGE_ERROR
    assert ended.stderr == (b"" if number == 2 else b"fss x: error: a mistake\n")
    assert (tmp_path / "file").read_bytes() == b"data"


@pytest.mark.parametrize(
    ("name", "ignored", "code", "line"),
    [
        ("SIGTERM", False, TERMINATED, "x: error: stopped by SIGTERM; run it again with the same settings to resume"),
        ("SIGHUP", False, HUNG_UP, "x: error: stopped by SIGHUP; run it again with the same settings to resume"),
        ("SIGHUP", True, 0, ""),
    ],
)
@pytest.mark.parametrize("block", ["", "with defer_interrupts() as check:\n        "])
def test_a_signal_ends_a_program_in_order(name: str, ignored: bool, code: int, line: str, block: str) -> None:
    script = (
        "import os, signal\nfrom fss.core.exit_codes import defer_interrupts, exit_cleanly\n"
        f"with exit_cleanly('x'):\n    {block}os.kill(os.getpid(), signal.{name})\n"
    )
    before = partial(signal.signal, getattr(signal, name), signal.SIG_IGN if ignored else signal.SIG_DFL)
    ended = subprocess.run([sys.executable, "-c", script], preexec_fn=before, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.strip()) == (code, line)


def test_a_program_cleans_up_after_its_terminal_was_closed(tmp_path: Path) -> None:
    script = (
        "import time\nfrom fss.core.exit_codes import exit_cleanly\n"
        "with exit_cleanly('x'):\n"
        "    try:\n"
        "        print('begun', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('to nobody', flush=True)\n"
        f"        open({str(tmp_path / 'cleaned')!r}, 'w').close()\n"
    )

    def take_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also if the tests run under nohup
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    terminal, end = pty.openpty()
    words = [sys.executable, "-c", script]
    with subprocess.Popen(words, stdin=end, stdout=end, stderr=end, preexec_fn=take_terminal) as process:
        os.close(end)
        assert os.read(terminal, 100).startswith(b"begun")
        os.close(terminal)
        assert process.wait(60) == HUNG_UP
    assert (tmp_path / "cleaned").exists()


def test_names_that_the_encoding_lacks_are_escaped() -> None:
    script = "from fss.core.exit_codes import exit_cleanly\nwith exit_cleanly('x'): print('caf\\u00e9 \\udce9')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"caf\\xe9 \\udce9\n", b"")


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied", "/data/c"),
        OSError("[Errno 13] Failed to open local file '/data/c'. Detail: [errno 13] Permission denied"),
    ],
)
def test_a_lack_of_permission_is_one_line(error: OSError, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised, exit_cleanly("job"):
        raise error
    assert raised.value.code == FAILURE
    told = capsys.readouterr().err
    assert told.startswith("job: error: there is no permission for /data/c; ") and told.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENAMETOOLONG, "too long for its disk"), (errno.EISDIR, "written: is a directory")]
)
def test_a_name_that_cannot_be_written_is_one_line(
    number: int, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised, exit_cleanly("job"):
        raise OSError(number, os.strerror(number), "/data/c")
    told = capsys.readouterr().err
    assert (raised.value.code, told.count("\n")) == (FAILURE, 1) and reason in told and "/data/c" in told


def test_invalid_settings_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised, exit_cleanly("fss x"):
        Size(side=0)
    assert raised.value.code == USAGE_ERROR
    assert capsys.readouterr().err == "fss x: error: side must be greater than or equal to 1, got 0\n"


def test_a_missing_package_of_an_extra_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised, exit_cleanly("fss x"):
        raise ModuleNotFoundError("No module named 'ray.data'", name="ray.data")
    assert raised.value.code == USAGE_ERROR
    line = "fss x: error: this needs ray.data, which is not installed. Install with: pip install 'fss-masks[cluster]'\n"
    assert capsys.readouterr().err == line


def test_an_object_store_that_fails_in_the_middle_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    cause = "When reading 'b/x': AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 7, no server"
    for error in (OSError(cause), RuntimeError(f"ray::make_part()\n  File part.py, line 3\nOSError: {cause}\n")):
        with pytest.raises(SystemExit) as raised, exit_cleanly("job"):
            raise error
        assert raised.value.code == FAILURE
        line = f"job: error: the object store failed: {cause}. Check AWS_ACCESS_KEY_ID, "
        told = capsys.readouterr().err
        assert told.startswith(line) and told.count("\n") == 1 and told.endswith("run it again\n")
