"""Settings from the words of a command line, with every mistake told in one line."""

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import tyro

from fss.core.flags import subcommands, walk_flags

T = TypeVar("T")
_FRAME = "│|╭╮╰╯+"
_REWORDINGS = (
    (r"^Error parsing (--[\w.-]+): invalid literal for int\(\) .*: (.*)$", r"\1 must be a whole number, got \2"),
    (r"^Error parsing (--[\w.-]+): could not convert string to float: (.*)$", r"\1 must be a number, got \2"),
    (r"^Error parsing (?:--)?\w[\w.-]*: ", ""),
)
"""Python's and tyro's words, and what stands instead."""


def parse_settings(cls: type[T], words: Sequence[str], *, prog: str, default: T | None = None) -> T:
    """Read settings from a command line.

    Args:
        cls: the settings' class.
        words: the words after the program's name.
        prog: the program's name.
        default: where settings start from; None: the class's defaults.

    Raises:
        ValueError: an unknown flag, or a value of the wrong type or out of range, in one line.
    """
    options: dict[str, Any] = {"prog": prog}
    if default is not None:
        options["default"] = default
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), _wide_terminal():
            parsed: T = tyro.cli(cls, args=words, **options)
    except SystemExit:
        raise ValueError(_one_line(printed.getvalue(), cls)) from None
    if nothing := [flag.name for flag in walk_flags(parsed) if flag.positional and flag.value == ()]:
        raise ValueError(f"{nothing[0]} must be given (--help lists the settings)")
    return parsed


@contextlib.contextmanager
def _wide_terminal() -> Iterator[None]:
    """Keep tyro from breaking lines, so that they can be joined again."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "2000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _one_line(printed: str, cls: Any) -> str:
    """Return the message of tyro's framed text about settings of ``cls``, and the flags that it suggests."""
    lines = [line.strip().strip(_FRAME).strip() for line in printed.splitlines()[1:]]
    text = "\n".join("" if set(line) <= set("─-") else line for line in lines)  # a rule ends a paragraph
    first, *rest = re.split(r"\n\n+", text.strip())
    message = " ".join(first.split())
    for pattern, wording in _REWORDINGS:
        message = re.sub(pattern, wording, message)
    if message.startswith("Missing from"):
        missing = [*_missing_places(message, cls), *re.findall(r"(--[a-z][a-z.-]*)", message)]
        message = f"{', '.join(missing[:-1])}{' and ' if missing[1:] else ''}{''.join(missing[-1:])} must be given"
    suggested = re.findall(r"^(--[\w.-]+)", "\n".join(rest), re.MULTILINE) if "Perhaps" in printed else []
    hint = f"; did you mean {' or '.join(dict.fromkeys(suggested))}?" if suggested else ""
    return f"{message}{hint} (--help lists the settings)"


def _missing_places(message: str, cls: Any) -> list[str]:
    """Return the missing arguments that have no flag: tyro's message has their docstrings, not their names."""
    flags = [flag for each in subcommands(cls).values() or [cls] for flag in walk_flags(each)]
    return [*dict.fromkeys(flag.name for flag in flags if flag.positional and f"{flag.doc} (required)" in message)]
