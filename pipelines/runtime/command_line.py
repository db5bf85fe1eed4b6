"""Settings as the command line that gives them."""

import dataclasses
import shlex
from collections.abc import Iterator
from typing import Any


def command(job: str, config: Any, *, default: Any = None, preset: str | None = None) -> str:
    """Return the command line of a job: every setting that differs from where the settings start.

    Args:
        job: the pipeline's name.
        config: its settings, with nested ones.
        default: settings to start from; None: the defaults of the settings' class.
        preset: name by which the command line asks for ``default``.
    """
    words = ["python", "-m", f"pipelines.{job}", *(["--preset", preset] if preset else [])]
    return shlex.join([*words, *_flags(config, default, "")])


def _flags(config: Any, default: Any, prefix: str) -> Iterator[str]:
    for field in dataclasses.fields(config):
        value, start = getattr(config, field.name), _start(field, default)
        name = f"{prefix}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            yield from _flags(value, start, f"{name}.")
        elif value == start and not _required(field):
            continue
        elif isinstance(value, bool):
            yield f"--{name}" if value else f"--{_negated(name)}"
        else:
            yield from (f"--{name}", *map(str, value if isinstance(value, tuple) else (value,)))


def _start(field: "dataclasses.Field[Any]", default: Any) -> Any:
    if default is not None:
        return getattr(default, field.name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _negated(name: str) -> str:
    """Return the flag that switches a setting off, as tyro names it: metrics.no-show."""
    group, _, last = name.rpartition(".")
    return f"{group}.no-{last}" if group else f"no-{last}"
