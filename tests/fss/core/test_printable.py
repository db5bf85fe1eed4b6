"""Names of unknown origin on a screen and in Markdown."""

import os

import pytest

from fss.core.printable import markdown_text, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("naïve 日本 🦊", "naïve 日本 🦊"),
        ("new\nline\t", "new\\nline\\t"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        (os.fsdecode(b"byte\xff"), "byte\\xff"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_a_name_is_one_line_without_codes(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("41.2 [39.0, 43.1]", "41.2 [39.0, 43.1]"),
        ("mobilenet_v2", "mobilenet_v2"),
        ("a|b", r"a\|b"),
        ("<script>", r"\<script\>"),
        ("[x](http://y)", r"\[x\](http://y)"),
        ("**b**", r"\*\*b\*\*"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text: str, shown: str) -> None:
    assert markdown_text(text) == shown
