"""The command fss: verbs, help, exit codes, interruption."""

import errno
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from fss.cli import main
from fss.core.exit_codes import Terminated, defer_interrupts, exit_cleanly
from fss.core.flags import subcommands, walk_flags
from tests.helpers.bad_files.formats import encoded, picture


def ends(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main.main(words)
    return int(end.value.code or 0)


def lost_in_compiled_code() -> SystemError:
    error = SystemError("a compiled function returned a result with an exception set")
    error.__cause__ = KeyboardInterrupt()
    return error


def test_help_names_every_verb_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("--help") == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in main.VERBS)
    assert all(code in text for code in ("0 done", "1 something failed", "2 a mistake", "3 done, but", "130"))
    assert max(map(len, text.splitlines())) <= 120
    assert ends() == 2


def test_help_loads_no_network_library() -> None:
    code = "import sys; from fss.cli import main\ntry: main.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'numpy', 'tyro') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


NO_SPACE = "fss x: error: no space left"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_verb_explains_itself(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    module = importlib.import_module(f"fss.cli.{verb}")
    main.main([verb, "--help"])
    lines = capsys.readouterr().out.splitlines()
    commands = re.findall(rf"^ *(fss {verb} .*)$", module.__doc__, flags=re.MULTILINE)
    assert commands and {f"    {command}" for command in commands} <= set(lines), "each is a line that can be copied"
    assert [line for line in lines if len(line) > 90 and not line.startswith("    fss")] == []
    for name, cls in subcommands(module.Config).items() or [("", module.Config)]:
        main.main([verb, *([name] if name else []), "--help"])
        page = capsys.readouterr().out
        flags = [*walk_flags(cls)]
        assert flags and [flag.name for flag in flags if flag.name not in page] == []
        places = [flag.signature() for flag in flags if flag.positional]
        usage = " ".join(["usage: fss", verb, *([name] if name else []), *places])
        assert page.startswith(f"{usage} [OPTIONS]\n")
        assert not re.search(r"\bSTR\b|\{None\}|\(default: \)", page)


def test_an_unknown_verb_is_a_mistake_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("predct") == 2
    assert "Did you mean predict?" in capsys.readouterr().err
    for words in (["masks", "exprt", "photos"], ["masks", "exprt", "--help"]):
        assert ends(*words) == 2
        assert "Did you mean export? The subcommands are export, import, rename, delete." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "last"),
    [
        (ValueError("no folder http://me:secret@x"), 2, "fss x: error: no folder http://me:***@x"),
        (RuntimeError("broken\nlong story"), 1, "fss x: error: RuntimeError: broken"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/out/m.png"),
            1,
            "fss x: error: no space left for /out/m.png",
        ),
        (OSError(errno.EROFS, "Read-only file system", "/out"), 1, "fss x: error: /out is on a file system that is"),
        (
            RuntimeError("part 3: OSError: [Errno 28] No space left on device: '/c/p'\n..."),
            1,
            f"{NO_SPACE} for /c/p; free",
        ),
        (caused(RuntimeError("the worker failed"), OSError(errno.EDQUOT, "x", "/c")), 1, f"{NO_SPACE} for /c; free"),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), 1, f"{NO_SPACE}; free some space"),
        (KeyboardInterrupt(), 130, "fss x: error: interrupted"),
        (lost_in_compiled_code(), 130, "fss x: error: interrupted"),
    ],
)
def test_how_commands_end(error: BaseException, code: int, last: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, exit_cleanly("fss x"):
        raise error
    assert end.value.code == code
    assert capsys.readouterr().err.splitlines()[-1].startswith(last)


def test_a_verb_that_is_interrupted_does_not_promise_to_resume(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("fss.cli.inspect.run", interrupt)
    with pytest.raises(SystemExit) as end:
        main.main(["inspect", "photographs"])
    assert end.value.code == 130
    assert capsys.readouterr().err == "fss inspect: error: interrupted; run it again to start from the beginning\n"


@pytest.mark.parametrize("deferred", [False, True])
def test_sigterm_counts_where_a_library_turns_it_into_ctrl_c(deferred: bool) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end, exit_cleanly("fss x"):
            try:
                with defer_interrupts() if deferred else nullcontext():
                    signal.raise_signal(signal.SIGTERM)
            except Terminated:
                raise KeyboardInterrupt from None  # as Ray does while it waits
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 143


def test_ctrl_c_after_the_end_changes_nothing() -> None:
    late = "import os\nclass Late:\n    def __del__(self, kill=os.kill, me=os.getpid()): kill(me, 2)\nlate = Late()\n"
    code = f"{late}from fss.core.exit_codes import exit_cleanly\nwith exit_cleanly('x'): raise SystemExit(3)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (3, "")


@pytest.mark.parametrize(
    ("imported", "words"), [("pyarrow", ["pipelines.ingest", "--help"]), ("difflib", ["fss.cli", "--help"])]
)
def test_ctrl_c_while_a_program_is_imported_is_reported_in_one_line(
    imported: str, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / f"{imported}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    root = Path(main.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    attend = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background of a shell ignores it
    words = [sys.executable, "-m", *words]
    ended = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, preexec_fn=attend)
    assert ended.returncode == -signal.SIGINT, "a shell says 130"
    assert ended.stderr.startswith("error: interrupted") and len(ended.stderr.splitlines()) == 1


def test_an_interrupt_is_held_until_it_is_asked_for_and_a_second_is_not() -> None:
    done, before = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), defer_interrupts() as check:
        check()
        signal.raise_signal(signal.SIGINT)
        done.append("the work in hand")
        check()
        done.append("the next")
    with pytest.raises(KeyboardInterrupt), defer_interrupts():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("more")
    with pytest.raises(Terminated), defer_interrupts():
        signal.raise_signal(signal.SIGTERM)
        done.append("the last")
    assert done == ["the work in hand", "the last"]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGINT, 130, "interrupted"),
        pytest.param(signal.SIGTERM, 143, "stopped by SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_cleanly_and_the_same_command_finishes(
    number: signal.Signals, code: int, message: str, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(100):
        (tmp_path / "photos" / f"{index}.jpg").write_bytes(encoded("JPEG", picture((240 + index, 200))))
    words = [
        sys.executable,
        "-m",
        "fss.cli.main",
        "saliency",
        str(tmp_path / "photos"),
        "--output",
        str(tmp_path / "masks"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[2])}
    running = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, text=True)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "masks").glob("*.png"))) < 1:
        assert running.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(number)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == code
    assert stderr.splitlines() == [stderr.strip()], f"one line, no traceback: {stderr}"
    assert stderr.startswith(f"fss saliency: error: {message}")
    files = list((tmp_path / "masks").rglob("*"))
    assert not [path for path in files if path.suffix == ".tmp"]
    assert len([path for path in files if path.suffix == ".png"]) < 100
    again = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert len(list((tmp_path / "masks").glob("*.png"))) == 100
