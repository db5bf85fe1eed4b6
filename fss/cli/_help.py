"""The help of a verb: its flags, or its subcommands and their flags."""

from collections.abc import Sequence
from typing import Any

from fss.core.flags import subcommands, walk_flags
from fss.core.help_page import help_page


def verb_help(verb: str, config: Any, description: str, words: Sequence[str]) -> str:
    """Return the help of a verb.

    Args:
        verb: its name.
        config: its settings class, or a union of one for each subcommand.
        description: the docstring of its module.
        words: the words after the verb; the first that is a subcommand says which one is meant.
    """
    classes = subcommands(config)
    chosen = next((word for word in words if word in classes), None)
    if classes and chosen is None:
        listed = [(name, str(each.__doc__).split("\n\n")[0]) for name, each in classes.items()]
        sections = {"subcommands": listed, "": [(f"fss {verb} SUBCOMMAND --help", "The options of a subcommand.")]}
        return help_page(f"fss {verb} SUBCOMMAND [OPTIONS]", description, sections)
    if chosen is not None:
        verb, config, description = f"{verb} {chosen}", classes[chosen], str(classes[chosen].__doc__)
    flags = [*walk_flags(config)]
    places = [flag for flag in flags if flag.positional]
    usage = " ".join(["fss", verb, *(flag.signature() for flag in places), "[OPTIONS]"])
    sections = {
        heading: [flag.entry() for flag in flags if flag.positional == positional]
        for heading, positional in (("arguments", True), ("options", False))
    }
    return help_page(usage, description, sections)
