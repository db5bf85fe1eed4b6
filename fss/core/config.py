"""Load, compose and hash configurations.

Every room owns its frozen, keyword-only dataclasses; this module only turns them into plain values and back, and gives
them a content hash, so that a result can name the configuration that made it.
"""

import dataclasses
import enum
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a configuration dataclass into plain JSON values (nested dataclasses become nested dictionaries)."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ValueError(f"expected a configuration dataclass, got {type(config).__name__}")
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build the configuration ``cls`` from plain values; the inverse of :func:`to_dict`.

    Raises:
        ValueError: a key that ``cls`` does not have, naming it and the allowed ones.
    """
    hints = _hints(cls, values)
    return cls(**{name: _typed(hints[name], value) for name, value in values.items()})


def override(config: T, values: Mapping[str, Any]) -> T:
    """Return a configuration with some of its settings replaced by plain values, nested as in :func:`to_dict`.

    Raises:
        ValueError: a key that the configuration does not have, naming it and the allowed ones.
    """
    hints = _hints(type(config), values)
    changed = {}
    for name, value in values.items():
        present = getattr(config, name)
        nested = dataclasses.is_dataclass(present) and isinstance(value, Mapping)
        changed[name] = override(present, value) if nested else _typed(hints[name], value)
    return dataclasses.replace(config, **changed)  # type: ignore[type-var]


def config_hash(*configs: Any) -> str:
    """Return 16 hex digits of the SHA-256 of the configurations' canonical JSON (dataclasses or plain values)."""
    text = json.dumps([_plain(config) for config in configs], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save(config: Any, path: str | Path) -> None:
    """Write a configuration as JSON."""
    Path(path).write_text(json.dumps(to_dict(config), indent=2) + "\n")


def load(cls: type[T], path: str | Path) -> T:
    """Read a configuration that :func:`save` wrote."""
    return from_dict(cls, json.loads(Path(path).read_text()))


def _hints(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types of a configuration's settings, having checked that it has all of ``values``."""
    assert dataclasses.is_dataclass(cls)
    allowed = [field.name for field in dataclasses.fields(cls) if field.init]
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        raise ValueError(
            f"{cls.__name__} has no setting {', '.join(unknown)}; its settings are {', '.join(allowed)}. "
            "Remove or rename it."
        )
    return typing.get_type_hints(cls)


def _plain(value: Any) -> Any:
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
    raise ValueError(f"a configuration holds plain values only, got {type(value).__name__}: {value!r}")


def _typed(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return _typed(options[0], value) if len(options) == 1 else value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return from_dict(hint, value)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(value)
    if isinstance(hint, type) and issubclass(hint, (Path, enum.Enum)):
        return hint(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
