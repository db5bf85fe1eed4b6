"""Tables as text."""

from fss.core.console import text_table

HEADER, ROWS = ("shots", "mIoU"), [("1", "41.2 [39.0, 43.1]"), ("5", "")]


def test_columns_are_aligned_and_brackets_are_text() -> None:
    header, line, first, last = text_table(HEADER, ROWS).splitlines()
    assert header == "shots   mIoU"
    assert set(line) == {"─"}
    assert first == "1       41.2 [39.0, 43.1]"
    assert last == "5"


def test_a_markdown_table_has_equal_columns() -> None:
    lines = text_table(HEADER, ROWS, markdown=True).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {3}
    assert lines[1].replace("-", "") == "|||"
    assert lines[2] == "| 1     | 41.2 [39.0, 43.1] |"


def test_wide_tables_do_not_fold() -> None:
    assert len(text_table(["x" * 300, "y" * 300], [["a" * 400, "[b]" * 100]]).splitlines()) == 3
