"""Tables as text, and progress without a terminal."""

import itertools
import sys

import pytest

from fss.core.console import LinePace, clock_text, text_table, with_progress

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


def test_without_a_terminal_progress_is_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = itertools.count(step=4.0)
    items = with_progress(range(1000), "counting", 1000, unit="numbers", clock=lambda: next(seconds))
    assert not sys.stderr.isatty() and [next(items) for _ in range(8)] == list(range(8))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "counting: 3/1,000 numbers, 0.2 a second, 1:06:28 left",
        "counting: 6/1,000 numbers, 0.2 a second, 1:06:16 left",
    ]
    assert list(items) == list(range(8, 1000)) and "counting: 1,000" not in capsys.readouterr().err


def test_the_log_of_a_long_job_stays_short() -> None:
    """Two days with news every second, in lines; then two days without any."""
    pace = LinePace(0.0)
    times = [second for second in range(2 * 86400) if pace.due(second, second)]
    assert times[:3] == [10, 20, 30] and len(times) < 1000
    assert max(b - a for a, b in itertools.pairwise(times)) <= 300
    pace = LinePace(0.0)
    times = [second for second in range(2 * 86400) if pace.due(second, 0)]
    assert times[:5] == [60, 180, 420, 720, 1020] and times[5] - times[4] == 300
    assert pace.due(times[-1] + 400, 1), "news comes at once"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (3600, "1:00:00"), (40 * 3600 + 61, "40:01:01")]
)
def test_a_time_is_read_like_a_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
