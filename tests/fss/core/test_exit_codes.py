"""How a program ends where its output's reader is gone, and what it says of invalid settings."""

import subprocess
import sys
from typing import Annotated

import pytest
from annotated_types import Ge

from fss.core.config import settings
from fss.core.exit_codes import FAILURE, PIPE_CLOSED, USAGE_ERROR, exit_cleanly


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
