"""The page of --help: widths, long names, commands that stay as they are."""

import pytest

from fss.core.help_page import help_page, overview

DESCRIPTION = """Copy ``folders``, which takes
a while.

    fss copy a b --a-flag-that-makes-the-command-long --and-another-one --and-a-third-one --and-a-fourth-one x

More words about it, so many that they go on in a second line of the page, however wide the terminal of the reader is.
"""
ENTRIES = [("--short INT", "One word. " * 20), ("--a-long-name one|two|three|four", "Text."), ("--bare", "")]


@pytest.mark.parametrize(("columns", "width"), [("40", 80), ("100", 100), ("300", 120)])
def test_a_page_has_the_width_of_the_terminal(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = help_page("fss copy SOURCE [OPTIONS]", DESCRIPTION, {"options": ENTRIES, "nothing": []}).splitlines()
    assert lines[:5] == ["usage: fss copy SOURCE [OPTIONS]", "", "Copy folders, which takes a while.", "", lines[4]]
    assert lines[4].startswith("    fss copy a b") and lines[4].endswith("x"), "a command can be copied"
    widest = max(len(line) for line in lines if not line.startswith("    fss"))
    assert width - 12 < widest <= width
    start = lines.index("options:")
    assert lines[start + 1].startswith("  --short INT                   One word. One word.")
    assert lines[start + 2].startswith(" " * 32) and lines[start + 2][32] in "Ow"
    assert lines[-3:] == ["  --a-long-name one|two|three|four", " " * 32 + "Text.", "  --bare"]


def test_the_overview_is_the_first_paragraph_with_its_commands() -> None:
    assert overview(DESCRIPTION).splitlines()[-1].startswith("    fss copy")
    assert overview("One.\n\nTwo.\n\n    fss x\n") == "One."
