"""The verdict on a model in one line."""

from typing import Any

import pytest

from fss.evaluation.verdict import judge


def row(method: str, ends: tuple[float, float, float] | None, shots: int = 1) -> dict[str, Any]:
    """Return a row of a table; ``ends`` are the lead over a baseline and its interval in points of mIoU."""
    names = ("ahead", "ahead_low", "ahead_high")
    ahead = {} if ends is None else {name: end / 100 for name, end in zip(names, ends, strict=True)}
    return {"method": method, "shots": shots, "episodes": 600, **ahead}


MODEL = row("model", None)
FOREGROUND = row("all foreground", (20, 18, 22))
SALIENCY, PROTOTYPE = "saliency of the query", "untrained prototype"


@pytest.mark.parametrize(
    ("rows", "missed", "words"),
    [
        (
            [FOREGROUND, row(SALIENCY, (5, 3, 7))],
            (),
            "ahead of all baselines (all foreground; saliency of the query) at 1 shot. Next: fss predict --model MODEL",
        ),
        (
            [FOREGROUND, row("all foreground", (20, 18, 22), 5)],
            (),
            "ahead of all baselines (all foreground) at 1 and 5 shots",
        ),
        (
            [FOREGROUND, row(SALIENCY, (-5.8, -8.1, -3.4)), row(PROTOTYPE, (4, 2, 6))],
            (SALIENCY,),
            "NOT ahead of saliency of the query (1-shot behind: -5.8 [-8.1, -3.4] mIoU), only of all foreground and "
            "untrained prototype. Next: use `fss saliency`",
        ),
        (
            [row(PROTOTYPE, (-1, -2, 0.5))],
            (PROTOTYPE,),
            "(1-shot unsure: -1.0 [-2.0, +0.5] mIoU), that is, of no baseline. ",
        ),
        ([row(PROTOTYPE, (-1, -2, 0.5))], (PROTOTYPE,), "Next: train longer (--steps)"),
        ([FOREGROUND, row(PROTOTYPE, (1, -0.5, 2.5))], (PROTOTYPE,), "Next: evaluate again with --episodes 1700"),
        ([row(PROTOTYPE, (0.1, -2, 2.2))], (PROTOTYPE,), "Next: train longer"),
        ([row(PROTOTYPE, (2, 1, 3)), row(PROTOTYPE, (-2, -3, -1), 5)], (PROTOTYPE,), "(5-shot behind: -2.0"),
        (
            [row(SALIENCY, (-1, -2, -0.5)), row("a later baseline", (-9, -10, -8))],
            (SALIENCY, "a later baseline"),
            "Next: use a later baseline itself",
        ),
        ([row("all foreground", (-3, -4, -2))], ("all foreground",), "Next: look at the drawn episodes"),
    ],
)
def test_the_verdict_names_the_baselines_and_the_next_step(
    rows: list[dict[str, Any]], missed: tuple[str, ...], words: str
) -> None:
    verdict = judge([MODEL, *rows])
    assert verdict is not None
    assert words in verdict.line and "\n" not in verdict.line
    assert verdict.line.endswith(f"Next: {verdict.next}"), "a command that can be copied"
    assert (verdict.ahead_of_all, verdict.not_ahead_of) == (not missed, missed)


def test_without_baselines_there_is_no_verdict() -> None:
    assert judge([MODEL]) is None
