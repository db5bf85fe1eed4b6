"""Tables of metrics as JSON, plain text and Markdown."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fss.core.console import text_table
from fss.episodes.config import describe_protocol
from fss.evaluation.evaluator import EvaluationResult
from fss.evaluation.metrics import METRIC_NAMES, Interval

Row = dict[str, Any]

_TITLES = {"miou": "mIoU", "episode_miou": "per-episode mIoU", "fb_iou": "FB-IoU"}
INTERVALS = "In percent, with 95 % bootstrap intervals over the episodes."


def result_rows(results: Sequence[EvaluationResult], model: str | None = None) -> list[Row]:
    """Return one row of JSON values per plan and method.

    Every metric comes with the ends of its 95 % interval (``miou``, ``miou_low``, ``miou_high``), all in [0, 1]. Rows
    of other methods than ``model`` also have the paired difference in mIoU, ``model`` minus the method (``ahead``,
    ``ahead_low``, ``ahead_high``). ``passes`` counts the images that went through the method's backbone in this plan;
    images whose features were cached in an earlier plan do not count. ``passes_per_query`` is the mean number of
    pictures, mirror images and tiles of a query that were compared with the supports, cached or not.

    Args:
        results: results of one or more plans, such as 1 and 5 shots.
        model: name of the method that the others are compared with.
    """
    table = []
    for result in results:
        for method in result.counts:
            metrics = result.metrics(method)
            row: Row = {
                "method": method,
                "shots": result.plan.shots,
                "episodes": len(result.plan),
                "protocol": result.plan.protocol,
                "plan": result.plan.hash,
                "size": result.size,
                "original_size": result.original,
            }
            for name in METRIC_NAMES:
                row |= _ends(name, getattr(metrics, name))
            if model in result.counts and method != model:
                row |= _ends("ahead", result.difference(str(model), method)["miou"])
            row |= {"seconds": round(result.seconds[method], 2), "passes": result.passes[method]}
            row["flipped"], row["tiled"] = result.flipped[method], result.tiled[method]
            row["refined"] = result.refined[method]
            row["backend"] = result.backends[method]
            row["passes_per_query"] = result.passes_per_query(method)
            row |= {"per_class": metrics.per_class, "by_size": _by_size(result, method)}
            if method == model and (sureness := result.sureness):
                row |= {"sureness": asdict(sureness)}
            table.append(row)
    return table


def to_json(table: Sequence[Row]) -> str:
    """Return the rows as JSON."""
    return json.dumps(list(table), indent=2) + "\n"


def to_text(table: Sequence[Row]) -> str:
    """Return the rows as aligned plain text, with metrics in percent and their intervals."""
    header, *rows = _cells(table)
    return text_table(header, rows) + "\n".join(_notes(table)) + "\n"


def to_markdown(table: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    header, *rows = _cells(table)
    return text_table(header, rows, markdown=True) + "\n".join(["", *(f"- {note}" for note in _notes(table))]) + "\n"


def _cells(table: Sequence[Row]) -> list[list[str]]:
    compared = any("ahead" in row for row in table)
    head = ["shots", "method", *_TITLES.values(), *(["model ahead by (mIoU)"] if compared else [])]
    body = []
    for row in table:
        cells = [str(row["shots"]), str(row["method"]), *(_percent(row, name) for name in METRIC_NAMES)]
        body.append(cells + ([_percent(row, "ahead", "+") if "ahead" in row else ""] if compared else []))
    return [head, *body]


def _notes(table: Sequence[Row]) -> list[str]:
    plans = dict.fromkeys(
        f"{row['shots']}-shot: {row['episodes']} episodes, {describe_protocol(row['protocol'])}, plan {row['plan']}, "
        f"{_resolution(row)}"
        for row in table
    )
    refined = list(dict.fromkeys(row["method"] for row in table if row["refined"]))
    outlines = f"outlines along the edges of the query, as fss predict draws them: {', '.join(refined)}"
    plans |= {outlines: None} if refined else {}
    return [*plans, *_size_notes(table), *_sureness_notes(table), *_pass_notes(table), INTERVALS]


def _resolution(row: Row) -> str:
    pixels = f"{row['size']} x {row['size']} pixels"
    return (
        f"predicted at {pixels}, scored at the original sizes of the queries"
        if row["original_size"]
        else f"scored at {pixels}"
    )


def _size_notes(table: Sequence[Row]) -> list[str]:
    """Return the mIoU by object size of the first method of each plan, which is the model where there is one."""
    first = {row["plan"]: row for row in reversed(table)}
    notes = []
    for row in reversed(first.values()):
        parts = [
            f"{name} ({100 * part['low']:.1f} to {100 * part['high']:.1f} % of the image) {_percent(part, 'miou')}"
            for name, part in row["by_size"].items()
        ]
        notes.append(f"{row['shots']}-shot mIoU of {row['method']} by object: {', '.join(parts)}")
    return notes


def _sureness_notes(table: Sequence[Row]) -> list[str]:
    """Return a line about confidence and presence for each plan in which they were measured."""
    return [
        f"{row['shots']}-shot confidence of {row['method']}: rank correlation with the IoU {sure['spearman']:.2f}, "
        f"calibration error {sure['calibration_error']:.2f}; at its presence threshold of {sure['threshold']:.2f}, "
        f"{sure['absent_empty']:.0%} of the queries without the object are empty and {sure['present_lost']:.0%} of "
        f"those with it are lost ({sure['episodes']} episodes)"
        for row in table
        if (sure := row.get("sureness"))
    ]


def _pass_notes(table: Sequence[Row]) -> list[str]:
    """Return the backbone passes of the methods that have a backbone; with caching it is one pass per image.

    Where queries were seen in tiles, their mean number of passes follows.
    """
    notes = [
        f"{row['shots']}-shot {row['method']}: {row['passes_per_query']:.1f} passes per query, with {_views(row)}"
        for row in table
        if row["passes_per_query"] > 1
    ]
    return notes + [
        f"{row['shots']}-shot {row['method']}: the backbone computed {row['passes']} images for the "
        f"{row['episodes'] * (row['shots'] + 1)} queries and supports, since repeated images are computed once; "
        f"{row['seconds']} s with {row['backend']}"
        for row in table
        if row["passes"]
    ]


def _views(row: Row) -> str:
    return " and ".join(["mirror images"] * row["flipped"] + ["tiles"] * (row["tiled"] > 0))


def _percent(row: Row, name: str, sign: str = "") -> str:
    value, low, high = (100 * row[key] for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def _by_size(result: EvaluationResult, method: str) -> dict[str, Row]:
    sizes = {}
    for name, part in result.metrics_by_size(method).items():
        bounds = {"low": part.low, "high": part.high, "episodes": part.episodes}
        sizes[name] = bounds | _ends("miou", part.miou) | _ends("episode_miou", part.episode_miou)
    return sizes


def _ends(name: str, interval: Interval) -> Row:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
