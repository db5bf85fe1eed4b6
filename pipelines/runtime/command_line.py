"""The command line of every job: presets, settings files, short and long help, and commands from settings."""

import argparse
import io
import re
import shlex
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from rich.console import Console
from rich.table import Table

from fss.collection import part_io
from fss.core import storage
from fss.core.config import override
from fss.core.exit_codes import PARTIAL, exit_cleanly
from fss.core.extras import require
from fss.core.json_values import parse_object
from fss.core.parsing import parse_settings
from pipelines.runtime.flags import Flag, walk_flags
from pipelines.runtime.result import JobResult

Config = TypeVar("Config")
Presets = Mapping[str, Callable[[], Any]]
"""Presets by name; each returns a configuration whose settings the user may override."""
Groups = Mapping[str, Sequence[str]]
"""The flags of the short help, by heading."""
NONE: Presets = MappingProxyType({})
EXTRAS = ("cluster", "track")
"""Extras of the distribution that every job needs."""


def cli_main(
    config_type: type[Config],
    run: Callable[[Config], JobResult],
    *,
    job: str,
    description: str,
    common: Groups,
    presets: Presets = NONE,
    default_preset: Callable[[Sequence[str]], str | None] = lambda words: None,
    extras: Sequence[str] = (),
) -> None:
    """Run a job from the command line: read the settings, run, show the table, and exit as in ``fss.core.exit_codes``.

    Args:
        config_type: the job's configuration.
        run: runs the job.
        job: name of the job's module.
        description: its docstring; the help shows the first paragraph and the example commands.
        common: the flags of the short help, by heading.
        presets: choices of ``--preset``.
        default_preset: returns the preset for a command line without ``--preset``.
        extras: extras of the distribution that the job needs besides those of all jobs.
    """
    with exit_cleanly(job):
        require(*EXTRAS, *extras, what=f"pipelines.{job}")
        words = sys.argv[1:]
        if "--help" in words or "-h" in words:
            preset = _split_words(words)[0].preset or default_preset(words)
            print_help(start(config_type, preset, presets), job, description, common, presets, preset)
            return
        config = read_config(
            config_type, words, job=job, description=description, presets=presets, default_preset=default_preset
        )
        result = run(config)
        result.show()
        if result.notes:
            raise SystemExit(PARTIAL)


def read_config(
    config_type: type[Config],
    words: Sequence[str],
    *,
    job: str,
    description: str = "",
    presets: Presets = NONE,
    default_preset: Callable[[Sequence[str]], str | None] = lambda words: None,
) -> Config:
    """Read a configuration from the words of a command line.

    The preset provides the initial settings. A settings file (``--config``) replaces those that it contains. Flags
    override both, also with a value that equals a default.

    Raises:
        ValueError: the preset is unknown, the settings file has no settings of this job, or a value is out of range.
        SystemExit: the job does not have a flag, or ``--help-all`` has printed the help.
    """
    given, rest = _split_words(words)
    default = start(config_type, given.preset or default_preset(words), presets)
    if given.config:
        default = override(default, _settings_of(job, given.config))
    rest = ["--help" if word == "--help-all" else word for word in rest]
    description += "\nA settings file, such as a sweep's best.json: --config FILE."
    if presets:
        description += f" Presets: --preset {', '.join(presets)}."
    prog = f"python -m pipelines.{job}"
    return parse_settings(config_type, rest, default=default, prog=prog, description=description)


def start(config_type: type[Config], preset: str | None, presets: Presets) -> Config:
    """Return the configuration of a preset, or the defaults without one.

    Raises:
        ValueError: the preset is unknown.
    """
    if preset is None:
        return config_type()
    if preset not in presets:
        raise ValueError(f"there is no preset {preset!r}; the presets are {', '.join(presets) or 'none'}")
    config: Config = presets[preset]()
    return config


def print_help(config: Any, job: str, description: str, common: Groups, presets: Presets, preset: str | None) -> None:
    """Print the short help: what the job does, example commands, and the settings that people use most."""
    flags = {flag.name: flag for flag in walk_flags(config)}
    text = io.StringIO()  # printed at once, so that a closed pipe is handled as everywhere
    width = max(100, min(Console().width, 120))
    console = Console(file=text, width=width, highlight=False, markup=False, force_terminal=sys.stdout.isatty())
    overview, examples = _overview_and_examples(description)
    console.print(f"usage: python -m pipelines.{job} [OPTIONS]\n\n{overview}\n")
    if examples:
        console.print("\n".join(["examples:", *(f"  {line}" for line in examples)]) + "\n")
    for heading, names in common.items():
        console.print(heading, style="bold")
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True, min_width=30)
        table.add_column(ratio=1)
        for name in names:
            flag = flags[name]
            table.add_row(f"  --{name} {_type_text(flag)}", f"{flag.doc} ({_default_text(flag)})")
        console.print(table)
    if presets:
        current = f" (here: {preset})" if preset else ""
        console.print(f"\n  --preset {'|'.join(presets)}{current}: initial settings; your flags override them.")
    console.print(
        f"\n  --config FILE: settings from a file, such as a sweep's best.json.\n"
        f"{'  --dry-run: show the resolved settings and stop.' + chr(10) if 'dry-run' in flags else ''}"
        f"  --help-all: all {len(flags)} settings."
    )
    print(text.getvalue(), end="")


def command(job: str, config: Any, *, default: Any, preset: str | None = None) -> str:
    """Return the command line of a job, with the flags of all settings that differ from ``default``.

    Args:
        job: name of the job's module.
        config: the configuration of the job.
        default: the configuration to compare with.
        preset: the preset that returns ``default``; None if these are the job's defaults.
    """
    default_values = {flag.path: flag.value for flag in walk_flags(default)}
    words = ["python", "-m", f"pipelines.{job}", *(["--preset", preset] if preset else [])]
    for flag in walk_flags(config):
        if flag.value != default_values[flag.path]:
            words += flag.words()
    return shlex.join(words)


def _split_words(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the values of ``--config`` and ``--preset``, and the other words.

    Raises:
        ValueError: one of the two has no value or two.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", metavar="FILE", action="append", default=[])
    parser.add_argument("--preset", metavar="NAME", action="append", default=[])
    try:
        given, rest = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error.argument_name} needs a value (--help lists the settings)") from None
    for flag, values in vars(given).items():
        if len(values) > 1:
            raise ValueError(f"--{flag} is given {len(values)} times ({', '.join(values)}); give it once")
        if values == [""]:
            raise ValueError(f"--{flag} needs a value (--help lists the settings)")
    return argparse.Namespace(**{flag: next(iter(values), None) for flag, values in vars(given).items()}), rest


def _settings_of(job: str, file: str) -> dict[str, Any]:
    """Return a job's section of a settings file: JSON ``{job: {setting: value}}``, nested like the configuration.

    The main job gets all sections, because it nests the settings of other jobs.

    Raises:
        ValueError: there is no such file, it has no section of the job, or it has a setting twice.
    """
    if not part_io.exists(file):
        raise ValueError(f"there is no settings file {file}; give the best.json of a sweep, or leave --config out")
    sections: dict[str, dict[str, Any]] = parse_object(storage.read_bytes(file), file, unique=True)
    if job == "masksplit":
        return sections
    if job not in sections:
        raise ValueError(
            f"{file} has no settings of {job!r}; it has those of {', '.join(sorted(sections))}. Give another file, or "
            "leave --config out"
        )
    if not isinstance(sections[job], dict):
        raise ValueError(f"the settings of {job!r} in {file} must be an object, got {sections[job]!r}")
    return sections[job]


def _overview_and_examples(description: str) -> tuple[str, list[str]]:
    """Return the first paragraph of a job's docstring, and its example commands (indented lines)."""
    paragraphs = description.strip().split("\n\n")
    joined = re.sub(r"\\\n\s+", "", description)  # joins the lines of a command
    lines = [line.strip() for line in joined.splitlines() if line.startswith("    ")]
    return " ".join(paragraphs[0].split()), lines[:4]


def _type_text(flag: Flag) -> str:
    """Return what follows a flag: ``INT``, ``TEXT ...``, ``auto|cpu|cuda|mps``; a switch is followed by nothing."""
    return "" if isinstance(flag.value, bool) else _hint_text(flag.hint)


def _hint_text(hint: Any) -> str:
    if hasattr(hint, "__metadata__"):  # Annotated
        return _hint_text(typing.get_args(hint)[0])
    options = [each for each in typing.get_args(hint) if each is not type(None)]
    if typing.get_origin(hint) is Literal:
        return "|".join(map(str, options))
    if typing.get_origin(hint) is tuple:
        return " ".join("..." if each is ... else _hint_text(each) for each in options)
    if options:  # a union, None aside
        return _hint_text(options[0])
    names = {str: "TEXT", int: "INT", float: "FLOAT", bool: ""}
    return names.get(hint, getattr(hint, "__name__", "VALUE").upper())


def _default_text(flag: Flag) -> str:
    if flag.required and not flag.value:
        return "required"
    value = flag.value
    if isinstance(value, tuple):
        value = " ".join(map(str, value)) or "none"
    return f"default: {value}"
