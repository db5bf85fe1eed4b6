"""The command line of every job: presets, settings files, short and long help, and commands from settings."""

import argparse
import difflib
import pkgutil
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import pipelines
from fss.collection import part_io
from fss.core import storage
from fss.core.config import flatten, override
from fss.core.exit_codes import PARTIAL, exit_cleanly
from fss.core.extras import require
from fss.core.flags import flags_without_effect, walk_flags
from fss.core.help_page import help_page, overview
from fss.core.json_values import parse_object
from fss.core.parsing import parse_settings
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
        description: its docstring; the short help shows the first paragraph and the example commands.
        common: the flags of the short help, by heading.
        presets: choices of ``--preset``.
        default_preset: returns the preset for a command line without ``--preset``.
        extras: extras of the distribution that the job needs besides those of all jobs.
    """
    with exit_cleanly(job):
        require(*EXTRAS, *extras, what=f"pipelines.{job}")
        words = sys.argv[1:]
        if {"--help", "-h", "--help-all"} & set(words):
            preset = _split_words(words)[0].preset or default_preset(words)
            shown = None if "--help-all" in words else common
            print_help(start(config_type, preset, presets), job, description, shown, presets, preset)
            return
        config = read_config(config_type, words, job=job, presets=presets, default_preset=default_preset)
        result = run(config)
        result.show()
        if result.notes:
            raise SystemExit(PARTIAL)


def read_config(
    config_type: type[Config],
    words: Sequence[str],
    *,
    job: str,
    presets: Presets = NONE,
    default_preset: Callable[[Sequence[str]], str | None] = lambda words: None,
) -> Config:
    """Read a configuration from the words of a command line.

    The preset provides the initial settings. A settings file (``--config``) replaces those that it contains. Flags
    override both, also with a value that equals a default.

    Raises:
        ValueError: the preset or a flag is unknown, the settings file has no settings of this job or unknown ones, a
            value is out of range, or what a flag or the file sets has no effect beside the other settings.
    """
    given, rest = _split_words(words)
    settings = _settings_of(job, given.config) if given.config else {}
    named = [f"--{name}" for name, value in settings.items() if value is not None]
    initial = start(config_type, given.preset or default_preset([*words, *named]), presets)
    default = _with_file(initial, settings, given.config) if settings else initial
    config = parse_settings(config_type, rest, default=default, prog=f"python -m pipelines.{job}")
    _check_effects(config, rest)
    _check_file_effects(config, default, initial, given.config)
    return config


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


def print_help(
    config: Any, job: str, description: str, common: Groups | None, presets: Presets, preset: str | None
) -> None:
    """Print what the job does, example commands, and its settings: all of them, or those that people use most.

    Args:
        config: the settings whose values are shown as defaults.
        job: name of the job's module.
        description: its docstring.
        common: flags to show, by heading; None: all.
        presets: choices of ``--preset``.
        preset: the one that ``config`` comes from.
    """
    flags = {flag.name: flag for flag in walk_flags(config)}
    groups: dict[str, list[str]] = {heading: [*names] for heading, names in (common or {}).items()}
    if common is None:
        for name in flags:
            groups.setdefault(name.rpartition(".")[0] or "settings", []).append(name)
    sections = {heading: [flags[name].entry() for name in names] for heading, names in groups.items()}
    current = f" (here: {preset})" if preset else ""
    more = {
        f"--preset {'|'.join(presets)}": f"Initial settings{current}; your flags override them." if presets else "",
        "--config FILE": "Settings from a file, such as a sweep's best.json.",
        "--dry-run": "Show the resolved settings and stop." if common and "dry-run" in flags else "",
        "--help-all": f"All {len(flags)} settings." if common else "",
    }
    sections[""] = [(name, text) for name, text in more.items() if text]
    description = overview(description) if common else description
    print(help_page(f"python -m pipelines.{job} [OPTIONS]", description, sections), end="")


def command(job: str, config: Any, *, default: Any, preset: str | None = None) -> str:
    """Return the command line of a job, with the flags of all settings that differ from ``default`` and have an effect.

    Args:
        job: name of the job's module.
        config: the configuration of the job.
        default: the configuration to compare with.
        preset: the preset that returns ``default``; None if these are the job's defaults.
    """
    default_values = {flag.path: flag.value for flag in walk_flags(default)}
    without_effect = flags_without_effect(config)
    words = ["python", "-m", f"pipelines.{job}", *(["--preset", preset] if preset else [])]
    for flag in walk_flags(config):
        if flag.value != default_values[flag.path] and flag.path not in without_effect:
            words += flag.words()
    return shlex.join(words)


def _check_effects(config: Any, words: Sequence[str]) -> None:
    """Refuse flags that have no effect beside the other settings, also with the value that the setting has anyway.

    Presets may have such settings: they are whole, and flags may switch a part off.
    """
    given = {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")}
    reasons = flags_without_effect(config)
    for flag in walk_flags(config):
        if flag.path in reasons and (named := given.intersection(flag.spellings)):
            raise ValueError(f"{named.pop()} has no effect: {reasons[flag.path]}, or leave it out")


def _check_file_effects(config: Any, default: Any, initial: Any, file: str) -> None:
    """Refuse what a settings file changes without an effect beside the file's other settings and the flags.

    What a flag has switched off may stay in the file.

    Args:
        config: the configuration.
        default: that of the file, without the flags.
        initial: that without the file.
        file: the settings file.
    """
    reasons, switched_off = flags_without_effect(default), flags_without_effect(config)
    before = {flag.path: flag.value for flag in walk_flags(initial)}
    for flag in walk_flags(default):
        if flag.value != before[flag.path] and flag.path in reasons and flag.path in switched_off:
            raise ValueError(f"{flag.path} in {file} has no effect: {reasons[flag.path]}, or remove it from the file")


def _with_file(initial: Config, settings: Mapping[str, Any], file: str) -> Config:
    """Return a configuration with the settings of a file.

    Raises:
        ValueError: a setting is unknown, of the wrong type or out of range; the message names the file.
    """
    paths = [flag.path for flag in walk_flags(initial)]
    for path in flatten(settings):
        if not any(f"{each}.".startswith(f"{path}.") for each in paths):
            similar = [each for each in paths if each.rpartition(".")[2] == path.rpartition(".")[2].replace("-", "_")]
            similar = similar or difflib.get_close_matches(path, paths, n=1)
            hint = f"did you mean {' or '.join(similar)}?" if similar else "--dry-run shows all settings."
            raise ValueError(f"{file} has the unknown setting {path}; {hint} Rename or remove it")
    try:
        return override(initial, settings)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


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
        ValueError: there is no such file, it has no section of the job or one of no job, or it has a setting twice.
    """
    if not part_io.exists(file):
        raise ValueError(f"there is no settings file {file}; give the best.json of a sweep, or leave --config out")
    sections: dict[str, dict[str, Any]] = parse_object(storage.read_bytes(file), file, unique=True)
    if job == "masksplit":
        return sections
    jobs = [module.name for module in pkgutil.iter_modules(pipelines.__path__) if not module.ispkg]
    if unknown := sorted(set(sections) - set(jobs)):
        raise ValueError(
            f"{file} has the section {unknown[0]!r}, but a section has the name of a job ({', '.join(jobs)}) and its "
            f'settings, such as {{"{job}": {{...}}}}; rename or remove it'
        )
    if job not in sections:
        raise ValueError(
            f"{file} has no settings of {job!r}; it has those of {', '.join(sorted(sections))}. Give another file, or "
            "leave --config out"
        )
    if not isinstance(sections[job], dict):
        raise ValueError(f"the settings of {job!r} in {file} must be an object, got {sections[job]!r}")
    return sections[job]
