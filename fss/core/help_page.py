"""The page that ``--help`` prints, for a verb of ``fss`` and for a job alike."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping

INDENT, COLUMN = 2, 32
"""Where a name starts, and where its text does."""


def help_page(usage: str, description: str, sections: Mapping[str, Iterable[tuple[str, str]]]) -> str:
    """Return a page as wide as the terminal, but of at least 80 and at most 120 characters.

    Args:
        usage: the command with its arguments, such as ``fss inspect COLLECTION [OPTIONS]``.
        description: a docstring. Blocks of lines with an indent of four are commands, and stay as they are.
        sections: names, such as flags, with their texts, by heading; an empty heading is left out.
    """
    width = max(80, min(shutil.get_terminal_size().columns, 120))
    blocks = [f"usage: {usage}", *(_block(text, width) for text in description.strip().split("\n\n"))]
    for heading, entries in sections.items():
        lines = [line for name, text in entries for line in _entry(name, text, width)]
        if lines:
            blocks.append("\n".join([f"{heading}:", *lines] if heading else lines))
    return "\n\n".join(blocks) + "\n"


def overview(description: str) -> str:
    """Return the first paragraph of a docstring with the commands below it."""
    first, *others = description.strip().split("\n\n")
    return "\n\n".join([first, *(text for text in others[:1] if _is_command(text))])


def _is_command(text: str) -> bool:
    return text.startswith("    ")


def _block(text: str, width: int) -> str:
    """Return a paragraph within the width, or commands as they are."""
    return text if _is_command(text) else _fill(" ".join(text.replace("``", "").split()), width)


def _entry(name: str, text: str, width: int) -> Iterator[str]:
    """Yield the lines of a name and its text, which begins below a name that is long."""
    lines = _fill(text, width - COLUMN).splitlines() or [""]
    start = " " * INDENT + name
    if len(start) < COLUMN - 1:
        start = f"{start:<{COLUMN}}{lines.pop(0)}".rstrip()
    yield start
    yield from (" " * COLUMN + line for line in lines)


def _fill(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False, break_long_words=False)
