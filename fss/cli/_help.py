"""The help of a verb: its flags, or its subcommands and their flags."""

import typing
from collections.abc import Sequence
from typing import Any

from fss.core.flags import walk_flags
from fss.core.help_page import help_page


def verb_help(verb: str, config: Any, description: str, words: Sequence[str]) -> str:
    """Return the help of a verb.

    Args:
        verb: its name.
        config: its settings class, or a union of one for each subcommand.
        description: the docstring of its module.
        words: the words after the verb; the first that is a subcommand says which one is meant.
    """
    classes = {_subcommand(each): typing.get_args(each)[0] for each in typing.get_args(config)}
    chosen = next((word for word in words if word in classes), None)
    if classes and chosen is None:
        listed = [(name, each.__doc__.split("\n\n")[0]) for name, each in classes.items()]
        sections = {"subcommands": listed, "": [(f"fss {verb} SUBCOMMAND --help", "The options of a subcommand.")]}
        return help_page(f"fss {verb} SUBCOMMAND [OPTIONS]", description, sections)
    if chosen is not None:
        verb, config, description = f"{verb} {chosen}", classes[chosen], classes[chosen].__doc__
    flags = [*walk_flags(config)]
    places = [flag for flag in flags if flag.positional]
    usage = " ".join(["fss", verb, *(flag.signature() for flag in places), "[OPTIONS]"])
    sections = {
        heading: [(flag.signature(), flag.explanation()) for flag in flags if flag.positional == positional]
        for heading, positional in (("arguments", True), ("options", False))
    }
    return help_page(usage, description, sections)


def _subcommand(annotated: Any) -> str:
    """Return the name of a subcommand from tyro's annotation of its class."""
    return str(annotated.__metadata__[0].name)
