"""One table of figures, as JSON rows, plain text and Markdown."""

import json
from collections.abc import Sequence
from typing import Any

from fss.evaluation.metrics import NAMES, Interval
from fss.evaluation.run import EvaluationResult

Row = dict[str, Any]

_TITLES = {"miou": "mIoU", "episode_miou": "per-episode mIoU", "fb_iou": "FB-IoU"}


def rows(results: Sequence[EvaluationResult], model: str | None = None) -> list[Row]:
    """Return one row of plain values per plan and method.

    Args:
        results: of one or more plans, such as 1 and 5 shots.
        model: the method that is compared with the others; its rows carry no difference.

    Every figure is given with the ends of its 95 % interval (``miou``, ``miou_low``, ``miou_high``), and each other
    method with the paired difference ``model`` minus it (``ahead``, ``ahead_low``, ``ahead_high``, in mIoU).
    """
    found = []
    for result in results:
        for method in result.counts:
            figures = result.figures(method)
            row: Row = {
                "method": method,
                "shots": result.plan.shots,
                "episodes": len(result.plan),
                "protocol": result.plan.protocol,
                "plan": result.plan.hash,
                "size": result.size,
            }
            for name in NAMES:
                row |= _ends(name, getattr(figures, name))
            if model in result.counts and method != model:
                row |= _ends("ahead", result.difference(str(model), method)["miou"])
            row |= {"seconds": round(result.seconds[method], 2), "per_class": figures.per_class}
            found.append(row)
    return found


def to_json(table: Sequence[Row]) -> str:
    """Return the rows as JSON."""
    return json.dumps(list(table), indent=2) + "\n"


def to_text(table: Sequence[Row]) -> str:
    """Return the rows as aligned plain text, figures in percent with their intervals."""
    cells = _cells(table)
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *_notes(table)]) + "\n"


def to_markdown(table: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    head, *body = ["| " + " | ".join(row) + " |" for row in _cells(table)]
    notes = ["", *_notes(table)]
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *body, *notes]) + "\n"


def _cells(table: Sequence[Row]) -> list[list[str]]:
    compared = any("ahead" in row for row in table)
    head = ["shots", "method", *_TITLES.values(), *(["model ahead by (mIoU)"] if compared else [])]
    body = []
    for row in table:
        cells = [str(row["shots"]), str(row["method"]), *(_percent(row, name) for name in NAMES)]
        body.append(cells + ([_percent(row, "ahead", "+") if "ahead" in row else ""] if compared else []))
    return [head, *body]


def _notes(table: Sequence[Row]) -> list[str]:
    plans = dict.fromkeys(
        f"{row['shots']}-shot: {row['episodes']} episodes, protocol {row['protocol']}, plan {row['plan']}, scored at "
        f"{row['size']} x {row['size']} pixels"
        for row in table
    )
    return [*plans, "In percent, with 95 % bootstrap intervals over the episodes."]


def _percent(row: Row, name: str, sign: str = "") -> str:
    value, low, high = (100 * row[key] for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def _ends(name: str, interval: Interval) -> Row:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
