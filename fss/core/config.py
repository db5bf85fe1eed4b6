"""Settings: frozen dataclasses that check themselves, plain values from them and back, and their hash.

A settings class is made with :func:`settings`. It checks the type and the range of every field when it is built, so a
wrong value never reaches the work. Ranges are written with ``annotated_types`` or ``pydantic.Field``:

    @settings
    class OptimizerConfig:
        '''How a segmenter is optimised.'''

        steps: Annotated[int, Ge(1)] = 1000
        '''Optimiser steps.'''

Rules over several fields belong in ``__post_init__`` and raise ValueError.
"""

import dataclasses
import enum
import functools
import hashlib
import json
import re
import typing
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, dataclass_transform

import pydantic
from pydantic.dataclasses import dataclass as checked_dataclass

from fss.core.json_values import parse_object

T = TypeVar("T")

_STRICT = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(dataclasses.field,))
def settings(cls: type[T]) -> type[T]:
    """Make a class a frozen, keyword-only dataclass whose fields are checked when it is built.

    Nothing is converted but whole numbers to floats: "3" is no number and 1 is no truth value.
    """
    checked: Any = checked_dataclass(frozen=True, kw_only=True, config=_STRICT)(cls)
    build = checked.__init__

    @functools.wraps(build)
    def describing(self: T, *args: Any, **values: Any) -> None:
        try:
            build(self, *args, **values)
        except pydantic.ValidationError as error:
            raise ValueError(describe(error)) from None

    checked.__init__ = describing
    result: type[T] = checked
    return result


def to_dict(config: Any) -> dict[str, Any]:
    """Turn settings into plain JSON values; nested settings become nested dictionaries."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ValueError(f"expected settings, got {type(config).__name__}")
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def without_added(config: Any, added: Collection[str]) -> dict[str, Any]:
    """Return settings as plain values for a hash, without those of ``added`` that hold their default.

    Settings that an earlier version lacked leave its hashes as they were in this way.
    """
    fields = {field.name: field for field in dataclasses.fields(config)}

    def is_default(name: str) -> bool:
        factory = fields[name].default_factory
        default = fields[name].default if factory is dataclasses.MISSING else factory()
        return bool(getattr(config, name) == default)

    return {name: value for name, value in to_dict(config).items() if name not in added or not is_default(name)}


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build the settings ``cls`` from plain values; the inverse of :func:`to_dict`.

    Raises:
        ValueError: a name that ``cls`` does not have, or a value of the wrong type or out of range.
    """
    _check_names(cls, values)
    try:
        config: T = _adapter(cast(Any, cls)).validate_json(json.dumps(_plain(dict(values))), strict=True)
    except pydantic.ValidationError as error:
        raise ValueError(describe(error)) from error
    return config


def override(config: T, values: Mapping[str, Any]) -> T:
    """Return settings with some of them replaced by plain values, nested as in :func:`to_dict`.

    Raises:
        ValueError: a name that the settings do not have, or a value of the wrong type or out of range.
    """
    return from_dict(type(config), merged(to_dict(config), values))


def merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested plain values with some of them replaced."""
    result = dict(base)
    for name, value in values.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if nested else value
    return result


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested plain values under dotted names: ``{"split": {"tilt": 0}}`` becomes ``{"split.tilt": 0}``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return plain values that an earlier version wrote, with the present names for its old ones."""
    return {names.get(name, name): value for name, value in values.items()}


def config_hash(*configs: Any) -> str:
    """Return 16 hex digits of the SHA-256 of the settings' canonical JSON (dataclasses or plain values)."""
    return hashlib.sha256(canonical_json(list(configs)).encode()).hexdigest()[:16]


def canonical_json(config: Any) -> str:
    """Return settings as the JSON that :func:`config_hash` hashes: sorted keys, no spaces."""
    return json.dumps(_plain(config), sort_keys=True, separators=(",", ":"))


def save(config: Any, path: str | Path) -> None:
    """Write settings as JSON."""
    Path(path).write_text(json.dumps(to_dict(config), indent=2) + "\n")


def load(cls: type[T], path: str | Path) -> T:
    """Read settings that :func:`save` wrote."""
    return from_dict(cls, parse_object(Path(path).read_bytes(), str(path)))


def describe(error: pydantic.ValidationError) -> str:
    """Return what is wrong with settings in one line: each field, what is allowed, and what came."""
    return "; ".join(_describe_one(each) for each in error.errors(include_url=False))


def _describe_one(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] in ("value_error", "unexpected_keyword_argument", "missing", "missing_argument"):
        return f"{name}: {message}" if name else message
    rule = re.sub(r"^\w+ should (be|have)", r"must \1", message).replace(" after validation", "")
    rule = re.sub(r"a valid (array|list|tuple)", "a list", rule)
    return f"{name} {rule}, got {error['input']!r}"


def _check_names(cls: type[Any], values: Mapping[str, Any]) -> None:
    """Refuse names that the settings do not have, and say which they have."""
    assert dataclasses.is_dataclass(cls)
    allowed = [field.name for field in dataclasses.fields(cls) if field.init]
    if unknown := sorted(set(values) - set(allowed)):
        raise ValueError(
            f"{cls.__name__} has no setting {', '.join(unknown)}; its settings are {', '.join(allowed)}. "
            "Remove or rename it."
        )
    for name, hint in typing.get_type_hints(cls).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(values.get(name), Mapping):
            _check_names(hint, values[name])


@cache
def _adapter(cls: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(cls)


def _plain(value: Any) -> Any:
    if type(value) is str:  # most values of a long list of image ids
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"settings hold plain values only, got {type(value).__name__}: {value!r}")
