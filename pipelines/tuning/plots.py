"""A sweep as pictures: every trial as a line through its settings, and which settings mattered."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.tuning.importance import Importance
from pipelines.tuning.space import Dimension
from pipelines.tuning.trial_runs import TrialRecord

_EDGE = 0.05


def parallel_coordinates(
    space: Mapping[str, Dimension], trials: Sequence[TrialRecord], *, objective: str, mode: str
) -> np.ndarray:
    """Draw a line per judged trial, through what it drew to its objective; uint8 [H,W,3].

    Lines of trials that were stopped early are dashed; bright is good.
    """
    from matplotlib import colormaps

    names = [name for name, dimension in space.items() if len(dimension.choices) != 1]
    judged = [trial for trial in trials if trial.objective is not None]
    scores = np.array([trial.objective for trial in judged], float)
    axis, draw = _canvas((1.9 * (len(names) + 1) + 1, 4.2))
    low, high = (float(scores.min()), float(scores.max())) if len(scores) else (0.0, 1.0)
    heights = (scores - low) / max(high - low, 1e-12)
    goodness = heights if mode == "max" else 1 - heights
    for trial, height, good in sorted(zip(judged, heights, goodness, strict=True), key=lambda line: float(line[2])):
        line = [*(_height(space[name], trial.values[name]) for name in names), height]
        style = "-" if trial.state == "completed" else "--"
        axis.plot(line, style, color=colormaps["viridis"](0.95 * good), linewidth=1 + 1.5 * good, alpha=0.85)
    for place, name in enumerate(names):
        axis.axvline(place, color="0.6", linewidth=0.8)
        for height, label in _ticks(space[name]):
            _label(axis, label, place, height)
    axis.axvline(len(names), color="0.2", linewidth=1.2)
    for height, label in ((0.0, f"{low:.4f}"), (1.0, f"{high:.4f}")):
        _label(axis, label, len(names), height)
    axis.set_xticks(range(len(names) + 1), [*names, objective], fontsize=9)
    axis.set(yticks=[], xlim=(-0.1, len(names) + 0.5), ylim=(-_EDGE, 1 + _EDGE))
    axis.set_title(f"{len(judged)} trials by {objective} (dashed: stopped early)", loc="left", fontsize=10)
    return draw()


def importance_bars(found: Importance, *, objective: str) -> np.ndarray:
    """Draw the share of the objective's variance that each setting explains; uint8 [H,W,3]."""
    names = list(found.shares)[::-1]
    axis, draw = _canvas((7, 0.8 + 0.36 * len(names)))
    bars = axis.barh(names, [found.shares[name] for name in names], color="#4477aa")
    axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axis.set(xlim=(0, max(found.shares.values()) * 1.15 + 1e-9), xlabel=f"share of the variance of {objective}")
    axis.set_title(f"what mattered: {found.trials} trials at step {found.step}", loc="left", fontsize=10)
    return draw()


def _height(dimension: Dimension, value: Any) -> float:
    """Return where a value lies on its axis, in 0..1."""
    if dimension.choices:
        return dimension.choices.index(value) / max(1, len(dimension.choices) - 1)
    low, high = dimension.low, dimension.high
    if dimension.log:
        low, high, value = np.log(low), np.log(high), np.log(value)
    return float((value - low) / (high - low))


def _label(axis: Any, text: str, place: int, height: float) -> None:
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}
    axis.annotate(
        text, (place, height), (4, 0), textcoords="offset points", va="center", fontsize=8, bbox=paper, zorder=9
    )


def _ticks(dimension: Dimension) -> list[tuple[float, str]]:
    if dimension.choices:
        return [(_height(dimension, choice), str(choice)) for choice in dimension.choices]
    return [(0.0, f"{dimension.low:g}"), (1.0, f"{dimension.high:g}")]


def _canvas(inches: tuple[float, float]) -> tuple[Any, Callable[[], np.ndarray]]:
    """Return an axis to draw on, and a function that returns the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)

    def draw() -> np.ndarray:
        canvas.draw()  # type: ignore[no-untyped-call]
        return np.array(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]

    return figure.add_subplot(), draw
