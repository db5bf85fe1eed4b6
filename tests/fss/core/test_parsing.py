"""Settings from a command line: every mistake is one line that says what came and what is allowed."""

import re
from dataclasses import field
from typing import Annotated, Any, Literal

import pytest
import tyro
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
    return parse_settings(Outer, words, prog="job")


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


@settings
class Copy:
    source: tyro.conf.Positional[str]
    """Folder to copy."""
    targets: tyro.conf.Positional[tuple[str, ...]]
    """Where it goes."""
    form: str
    """Form of the copy."""


@settings
class Drop:
    source: tyro.conf.Positional[str]
    """Folder to drop."""


Verb: Any = Annotated[Copy, tyro.conf.subcommand("copy")] | Annotated[Drop, tyro.conf.subcommand("drop")]


@pytest.mark.parametrize(
    ("cls", "words", "message"),
    [
        (Copy, "", "SOURCE and --form must be given"),
        (Copy, "a --form x", "TARGETS must be given"),
        (Verb, "copy", "SOURCE and --form must be given"),
        (Verb, "drop", "SOURCE must be given"),
        (Verb, "", "Expected one of {copy, drop}."),
    ],
)
def test_what_is_missing_has_its_name(cls: Any, words: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(message)} \(--help lists the settings\)$"):
        parse_settings(cls, words.split(), prog="verb")
    assert parse_settings(Verb, ["copy", "a", "b", "c", "--form", "x"], prog="verb").targets == ("b", "c")
