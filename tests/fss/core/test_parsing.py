"""Settings from a command line: every mistake is one line that says what came and what is allowed."""

import re
from dataclasses import field
from typing import Annotated, Literal

import pytest
from annotated_types import Ge

from fss.core.config import settings
from fss.core.parsing import parse_settings


@settings
class Inner:
    rate: Annotated[float, Ge(0)] = 0.5
    """Learning rate."""


@settings
class Outer:
    folder: str
    """Folder to read."""
    steps: Annotated[int, Ge(1)] = 3
    """Training steps."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device of the network."""
    inner: Inner = field(default_factory=Inner)
    """Nested settings."""


def parse(*words: str) -> Outer:
    return parse_settings(Outer, words, prog="job", description="A job.")


def test_settings_are_read() -> None:
    assert parse("--folder", "f", "--inner.rate", "1") == Outer(folder="f", inner=Inner(rate=1.0))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "--folder must be given"),
        ("--folder f --steps ten", "--steps must be a whole number, got 'ten'"),
        ("--folder f --steps 0", "steps must be greater than or equal to 1, got 0"),
        ("--folder f --inner.rate x", "--inner.rate must be a number, got 'x'"),
        ("--folder f --inner.rate -1", "rate must be greater than or equal to 0, got -1.0"),
        ("--folder f --device gpu", "invalid choice 'gpu' for argument '--device'. Expected one of ('cpu', 'cuda')"),
        ("--folder f --step 4", "--step"),
        ("--folder f --stepz 4", "did you mean --steps?"),
    ],
)
def test_a_mistake_is_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        parse(*words.split())
    assert "\n" not in str(refusal.value)
    assert capsys.readouterr() == ("", "")


def test_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    assert "Training steps." in capsys.readouterr().out
