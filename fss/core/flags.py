"""The flags of a job or a verb: one for each leaf of its settings, with tyro's names, and how help shows them."""

import ast
import dataclasses
import difflib
import inspect
import textwrap
import types
import typing
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import tyro


class Required:
    """Marks a required text setting; its default is the empty string."""


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
    """Value of the setting in the walked configuration, or its default."""
    doc: str
    """Docstring of the setting, one sentence."""
    required: bool
    """Whether it has to be given."""
    positional: bool = False
    """Whether it is given by its place, without a flag; its name is then in capitals."""

    def number_type(self) -> type[int] | type[float] | None:
        """Return int or float if the setting is a number or an optional number, else None."""
        kinds = {kind for kind in _plain_types(self.hint) if kind is not type(None)}
        return int if kinds == {int} else float if kinds == {float} else None

    def signature(self) -> str:
        """Return how help shows it: ``--steps INT``, ``--device auto|cpu``, ``--flip``; or ``COLLECTION``."""
        if self.positional:
            return self.name + (" ..." if typing.get_origin(_bare(self.hint)) is tuple else "")
        if _bare(self.hint) is bool:
            return f"--{self.name}" + (f", --{self._opposite()}" if self.value else "")
        return f"--{self.name} {_type_text(self.hint)}"

    def explanation(self) -> str:
        """Return the docstring with the default, or that the flag is required."""
        if self.positional:
            return self.doc
        if self.required and not self.value:
            return f"{self.doc} (required)"
        if self.value is None and "None: " in self.doc:  # it tells what happens without a value
            return self.doc
        value = " ".join(map(str, self.value)) if isinstance(self.value, tuple) else self.value
        return f"{self.doc} (default: {'none' if value == '' else value})"

    def entry(self) -> tuple[str, str]:
        """Return its line of a help page: how it is given, and what it means."""
        return self.signature(), self.explanation()

    def words(self) -> list[str]:
        """Return the words of a command line that set the value."""
        if isinstance(self.value, bool):
            return [self.spellings[0 if self.value else 1]]
        return [*self.spellings, *_words(self.value)]

    @property
    def spellings(self) -> tuple[str, ...]:
        """The words that name the flag: one, or two for a switch."""
        return (f"--{self.name}", *((f"--{self._opposite()}",) if isinstance(self.value, bool) else ()))

    def _opposite(self) -> str:
        """Return the name of the flag that says no."""
        group, dot, last = self.name.rpartition(".")
        return f"{group}{dot}no-{last}"


def _words(value: Any) -> Iterator[str]:
    """Yield the words of a value; nested tuples are flattened."""
    if isinstance(value, tuple):
        for each in value:
            yield from _words(each)
    else:
        yield str(value)


def subcommands(config: Any) -> dict[str, type[Any]]:
    """Return the settings classes of subcommands by name, from a union that tyro reads; empty for a single class."""
    return {each.__metadata__[0].name: each.__origin__ for each in typing.get_args(config)}


def check_subcommand(config: Any, words: Sequence[str]) -> None:
    """Refuse a first word that is none of the subcommands.

    Args:
        config: a settings class, which has no subcommands, or a union of one for each.
        words: the words after the verb.

    Raises:
        ValueError: the word is no subcommand; the message names them all.
    """
    names = list(subcommands(config))
    if names and words and not words[0].startswith("-") and words[0] not in names:
        near = difflib.get_close_matches(words[0], names, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"there is no subcommand {words[0]!r}.{hint} The subcommands are {', '.join(names)}.")


def walk_flags(config: Any, *, prefix: str = "", path: str = "") -> Iterator[Flag]:
    """Yield the flag of every setting of a configuration, or of a settings class, in the order of its fields."""
    cls = config if isinstance(config, type) else type(config)
    hints = typing.get_type_hints(cls, include_extras=True)
    docs = field_docs(typing.cast(Hashable, cls))
    for field in dataclasses.fields(cls):
        hint, value = hints[field.name], _default(field) if config is cls else getattr(config, field.name)
        markers = _markers(hint)
        names = [name for each in markers if (name := getattr(each, "name", None)) is not None]
        name = names[0] if names else field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            nested = f"{prefix}{name}." if name else prefix
            yield from walk_flags(value, prefix=nested, path=f"{path}{field.name}.")
        else:
            positional = tyro.conf.Positional in markers
            yield Flag(
                name=f"{prefix}{name}" if not positional else field.name.upper(),
                path=f"{path}{field.name}",
                hint=hint,
                value=None if value is dataclasses.MISSING else value,
                doc=docs.get(field.name, ""),
                required=value is dataclasses.MISSING or any(isinstance(each, Required) for each in markers),
                positional=positional,
            )


def _default(field: "dataclasses.Field[Any]") -> Any:
    """Return the default of a field, or MISSING."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def flags_without_effect(config: Any) -> dict[str, str]:
    """Return why settings have no effect beside the others, by their paths.

    A settings class says it in a method ``without_effect``: reasons by the names of its settings or groups of them.
    """
    groups = dict(groups_without_effect(config))
    paths = [flag.path for flag in walk_flags(config)]
    return {path: reason for group, reason in groups.items() for path in paths if f"{path}.".startswith(f"{group}.")}


def groups_without_effect(config: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the paths of settings and of whole groups that have no effect, with the reason."""
    if hasattr(config, "without_effect"):
        for name, reason in config.without_effect().items():
            yield f"{path}{name}", reason
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from groups_without_effect(value, f"{path}{field.name}.")


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


def _bare(hint: Any) -> Any:
    """Return a type without its annotations."""
    return hint.__origin__ if hasattr(hint, "__metadata__") else hint


def _type_text(hint: Any) -> str:
    """Return what follows a flag: ``INT``, ``TEXT ...``, ``auto|cpu|cuda|mps``."""
    hint = _bare(hint)
    options = [each for each in typing.get_args(hint) if each is not type(None)]
    if typing.get_origin(hint) is Literal:
        return "|".join(map(str, options))
    if typing.get_origin(hint) is tuple:
        return " ".join("..." if each is ... else _type_text(each) for each in options).replace("... ...", "...")
    if options:  # a union, None aside
        return _type_text(options[0])
    names = {str: "TEXT", int: "INT", float: "FLOAT"}
    return names.get(hint, getattr(hint, "__name__", "VALUE").upper())
