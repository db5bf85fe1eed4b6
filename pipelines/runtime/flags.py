"""The flags of a job: one for each leaf of its configuration tree, with tyro's names."""

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pipelines.runtime.config import Required


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One setting of a job and its flag."""

    name: str
    """The flag without its dashes, such as ``split.distractor``."""
    path: str
    """Path of the setting in the configuration, such as ``train.split.distractor``."""
    hint: Any
    """Type of the setting."""
    value: Any
    """Value of the setting in the walked configuration."""
    doc: str
    """Docstring of the setting, one sentence."""
    required: bool
    """Whether the job cannot run without it."""

    def number_type(self) -> type[int] | type[float] | None:
        """Return int or float if the setting is a number or an optional number, else None."""
        kinds = {kind for kind in _plain_types(self.hint) if kind is not type(None)}
        return int if kinds == {int} else float if kinds == {float} else None

    def words(self) -> list[str]:
        """Return the words of a command line that set the value."""
        if isinstance(self.value, bool):
            group, _, last = self.name.rpartition(".")
            return [f"--{self.name}" if self.value else f"--{group}.no-{last}" if group else f"--no-{last}"]
        return [f"--{self.name}", *_words(self.value)]


def _words(value: Any) -> Iterator[str]:
    """Yield the words of a value; nested tuples are flattened."""
    if isinstance(value, tuple):
        for each in value:
            yield from _words(each)
    else:
        yield str(value)


def walk_flags(config: Any, *, prefix: str = "", path: str = "") -> Iterator[Flag]:
    """Yield the flag of every setting of a configuration, in the order of its fields."""
    cls = type(config)
    hints = typing.get_type_hints(cls, include_extras=True)
    docs = field_docs(typing.cast(Hashable, cls))
    for field in dataclasses.fields(config):
        hint, value = hints[field.name], getattr(config, field.name)
        names = [name for each in _markers(hint) if (name := getattr(each, "name", None)) is not None]
        name = names[0] if names else field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            nested = f"{prefix}{name}." if name else prefix
            yield from walk_flags(value, prefix=nested, path=f"{path}{field.name}.")
        else:
            required = any(isinstance(each, Required) for each in _markers(hint))
            yield Flag(
                name=f"{prefix}{name}",
                path=f"{path}{field.name}",
                hint=hint,
                value=value,
                doc=docs.get(field.name, ""),
                required=required,
            )


def check_required(config: Any) -> None:
    """Check that a configuration has all required settings.

    Raises:
        ValueError: a required setting is empty; the message has its flag and docstring.
    """
    for flag in walk_flags(config):
        if flag.required and not flag.value:
            raise ValueError(f"--{flag.name} is required: {flag.doc}")


@cache
def field_docs(cls: Hashable) -> dict[str, str]:
    """Return the docstrings of the fields of a dataclass, by name, each on one line."""
    docs: dict[str, str] = {}
    bases: list[type[Any]] = [base for base in typing.cast("type[Any]", cls).__mro__ if dataclasses.is_dataclass(base)]
    for each in reversed(bases):
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                docs[statement.target.id] = " ".join(str(following.value.value).split())
    return docs


def _plain_types(hint: Any) -> Iterator[Any]:
    """Yield the types that a hint allows, without their annotations."""
    if hasattr(hint, "__metadata__"):
        yield from _plain_types(hint.__origin__)
    elif typing.get_origin(hint) in (typing.Union, types.UnionType):
        for each in typing.get_args(hint):
            yield from _plain_types(each)
    else:
        yield hint


def _markers(hint: Any) -> tuple[Any, ...]:
    """Return the extra values of an ``Annotated`` type."""
    return getattr(hint, "__metadata__", ())
