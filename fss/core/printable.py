"""Names and texts of unknown origin, made safe for a line on a screen and for Markdown."""

import os
import re

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""Control characters, those that turn the direction of writing, and those without a width."""
_MARKDOWN = re.compile(r"[\\`*_\[\]<>|]")


def printable(text: str) -> str:
    """Return a text in one line of valid Unicode; invalid bytes and unseen characters become escape sequences."""
    try:
        text = os.fsencode(text).decode(errors="backslashreplace")
    except UnicodeEncodeError:  # a name from an annotation file, with half of a surrogate pair
        text = text.encode(errors="backslashreplace").decode()
    return _UNSEEN.sub(lambda match: ascii(match[0])[1:-1], text)


def markdown_text(text: str) -> str:
    r"""Return a text that Markdown shows as it is: ``a|<b>`` becomes ``a\|\<b\>``; names and intervals stay."""
    if re.fullmatch(r"[\w. ,:/%+()\[\]-]*", text) and "](" not in text:
        return text
    return escape_markdown(text)


def escape_markdown(text: str) -> str:
    """Return a text in which Markdown marks nothing up."""
    return _MARKDOWN.sub(r"\\\g<0>", text)
