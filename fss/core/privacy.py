"""What the settings of a private run may say: numbers, and texts that cannot come from a user.

A text is public if its setting allows only listed words (``Literal``), or if the field is marked:

    backbone: Annotated[str, Public()] = "resnet50"

A field is marked only if every value is checked against a closed list before a run opens, or if it names something in
the tracking store itself. Every other text is hidden, so a new setting is private until somebody says otherwise.
"""

import dataclasses
import re
import typing
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from typing import Any, cast

from fss.core.config import to_dict

HIDDEN = "(private)"
_HASH = re.compile(r"[0-9a-f]{16}([0-9a-f]{16}|[0-9a-f]{24}|[0-9a-f]{48})?(-[0-9a-f]{16})?")


class Public:
    """Marks a text setting whose value a private run may log."""


def public_settings(config: Any) -> dict[str, Any]:
    """Return the plain values of settings, nested as in :func:`to_dict`, with every private text hidden."""
    values, hints = to_dict(config), _hints(cast(Hashable, type(config)))
    return {
        field.name: public_settings(value)
        if dataclasses.is_dataclass(value := getattr(config, field.name))
        else _public(values[field.name], hints[field.name])
        for field in dataclasses.fields(config)
        if field.name in values
    }


def public_value(value: Any) -> Any:
    """Return a plain value without a type: numbers and hashes are public, and other texts and mappings are hidden."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [public_value(item) for item in value]
    return value if is_hash(value) else HIDDEN


def is_hash(value: Any) -> bool:
    """Return whether a value is a hash of this project or of git: 16, 32, 40 or 64 hex digits, or a joined pair."""
    return isinstance(value, str) and bool(_HASH.fullmatch(value))


def _public(value: Any, hint: Any) -> Any:
    parts = list(_parts(hint))
    if any(isinstance(each, Public) for each in parts):
        return value
    words = {word for each in parts if typing.get_origin(each) is typing.Literal for word in typing.get_args(each)}
    return _listed(value, words)


def _listed(value: Any, words: set[Any]) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_listed(item, words) for item in value]
    return HIDDEN if isinstance(value, Mapping) or value not in words else value


def _parts(hint: Any) -> Iterator[Any]:
    """Yield a type, its arguments and its annotations, recursively."""
    yield hint
    annotations = getattr(hint, "__metadata__", ())
    yield from annotations
    for each in typing.get_args(hint):
        if each not in annotations:
            yield from _parts(each)


@cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)
