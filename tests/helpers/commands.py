"""Command lines that documents show, read by the real parsers of the jobs and of ``fss``, and not run."""

import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator
from typing import Any
from unittest import mock

import tyro

from fss.core.flags import walk_flags
from pipelines.runtime.command_line import read_config

_PROGRAM = re.compile(r"(?:^|\s|/)(?:python -m pipelines\.\w+|fss (?!VERB)[a-z]+)(?=\s|$)")
_INLINE = re.compile(r"`+([^`]+)`+")
_END = re.compile(r"\s+(?:&&|\||>)\s.*|\s*\)$")
_READ = ("job", "presets", "default_preset")
_VERBS = {"predict", "saliency", "inspect", "masks", "collection", "export", "sync", "doctor"}


def shown_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every command of a job or of ``fss`` in a Markdown file or a docstring.

    Commands are lines of code (indented by four spaces, or fenced) or stand in backticks. A backslash at the end of a
    line continues it, and a comment ends it.
    """
    joined = re.sub(r"\\\n\s*", " ", text)
    code = [line for line in joined.splitlines() if line.startswith("    ")]
    code += [line for block in re.findall(r"```\w*\n(.*?)```", joined, re.DOTALL) for line in block.splitlines()]
    for line in [*code, *_INLINE.findall(re.sub(r"```.*?```", "", joined, flags=re.DOTALL))]:
        for start in _PROGRAM.finditer(line):
            words = shlex.split(_END.sub("", line[start.start() :].strip(" /")), comments=True)
            if words[0] == "python" or (words[1] in _VERBS and len(words) > 2):  # a verb alone is a name
                yield words


def parse_command(words: list[str]) -> object:
    """Return the settings of a command line such as ``python -m pipelines.train --collection c``.

    Raises:
        AssertionError: the command's own parser refuses it; the message is the parser's.
    """
    words = [re.sub(r"<\w+>", "name", word) for word in words]
    words = [
        word for before, word in zip(["", *words], words, strict=False) if word != "..." or before.startswith("--")
    ]
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            return _parse_job(words[2], words[3:]) if words[0] == "python" else _parse_verb(words[1], words[2:])
    except (ValueError, SystemExit) as error:
        assert isinstance(error, SystemExit) and error.code == 0, f"{shlex.join(words)}\n{output.getvalue()}{error}"
        return None  # --help


def job_flags(name: str) -> set[str]:
    """Return the flags of a job, without their dashes."""
    config_type, _ = _command_line(name)
    return {flag.name for flag in walk_flags(config_type())}


def _command_line(name: str) -> tuple[type[Any], dict[str, Any]]:
    """Return the configuration class of a job, and what its command line offers besides."""
    job = importlib.import_module(name)
    with mock.patch.object(job, "cli_main") as cli_main:
        job.main()
    options = dict(cli_main.call_args.kwargs)
    return cli_main.call_args.args[0], {key: options[key] for key in options if key in _READ}


def _parse_job(name: str, words: list[str]) -> object:
    config_type, options = _command_line(name)
    if words == ["--help"]:
        return None
    if "--config" in words:  # a file that the example does not have
        at = words.index("--config")
        words = [*words[:at], *words[at + 2 :]]
    return read_config(config_type, words, **options)


def _parse_verb(verb: str, words: list[str]) -> object:
    return tyro.cli(importlib.import_module(f"fss.cli.{verb}").Config, args=words, prog=f"fss {verb}")
