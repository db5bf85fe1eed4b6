"""Plots of a sweep, drawn by Optuna: parallel coordinates of the trials, and importances of the settings."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from pipelines.tuning.importance import Importance, build_study, fanova
from pipelines.tuning.space import Dimension
from pipelines.tuning.trial_runs import TrialResult


def parallel_coordinates(
    space: Mapping[str, Dimension], trials: Sequence[TrialResult], *, objective: str, mode: str
) -> np.ndarray:
    """Draw a line per validated trial, from its objective through its settings; uint8 [H,W,3].

    Dark lines are good trials. The lines of trials that were stopped early are dashed. At least one trial is validated.
    """
    from matplotlib.collections import LineCollection
    from optuna.visualization.matplotlib import plot_parallel_coordinate

    scores = [(trial, trial.objective) for trial in trials if trial.objective is not None]
    study = build_study(space, scores, mode=mode)
    stopped = {score for trial, score in scores if trial.state != "completed"}
    with _plotting():
        axes = plot_parallel_coordinate(study, target_name=objective)
        (lines,) = axes.collections
        assert isinstance(lines, LineCollection)
        lines.set(linewidth=1.8, cmap="viridis_r" if mode == "max" else "viridis")
        lines.set_linestyle(["--" if line[0, 1] in stopped else "-" for line in lines.get_segments()])
        names = sorted(name for name, dimension in space.items() if len(dimension.choices) != 1)
        axes.set_xticks(range(len(names) + 1), [objective, *names], rotation=0, fontsize=9)  # Optuna cuts long names
        axes.set_title("")
        axes.set_title(f"{len(scores)} trials by {objective} (dashed: stopped early)", loc="left", fontsize=10)
        return _picture(axes, (1.9 * len(names) + 3, 4.4))


def history(space: Mapping[str, Dimension], trials: Sequence[TrialResult], *, objective: str, mode: str) -> np.ndarray:
    """Draw the objective of every validated trial in the order of the trials, and the best so far; uint8 [H,W,3]."""
    from optuna.visualization.matplotlib import plot_optimization_history

    scores = [(trial, trial.objective) for trial in trials if trial.objective is not None]
    study = build_study(space, scores, mode=mode)
    with _plotting():
        axes = plot_optimization_history(study, target_name=objective)
        axes.set(xlabel="trial", ylabel=objective)
        axes.set_title("")
        axes.set_title(f"{objective} of {len(scores)} trials, and the best so far", loc="left", fontsize=10)
        return _picture(axes, (7, 3.2))


def importance_bars(importance: Importance, *, objective: str) -> np.ndarray:
    """Draw the share of the objective's variance that each setting explains; uint8 [H,W,3]."""
    from optuna.visualization.matplotlib import plot_param_importances

    with _plotting():
        axes = plot_param_importances(importance.study, evaluator=fanova(), target_name=objective)
        axes.set(xlabel=f"share of the variance of {objective}", ylabel="")
        axes.set_title(f"Importance: {importance.trials} trials at step {importance.step}", loc="left", fontsize=10)
        if legend := axes.get_legend():
            legend.remove()
        return _picture(axes, (7, 1 + 0.36 * len(importance.shares)))


@contextmanager
def _plotting() -> Iterator[None]:
    """Restore matplotlib's settings, which Optuna changes, and hide Optuna's warnings about experimental plots."""
    import matplotlib as mpl

    with warnings.catch_warnings(), mpl.rc_context():
        warnings.simplefilter("ignore")
        yield


def _picture(axes: Any, inches: tuple[float, float]) -> np.ndarray:
    """Render the figure of ``axes`` without a display, and close it; uint8 [H,W,3]."""
    from matplotlib import pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = axes.figure
    figure.set(size_inches=inches, dpi=100, layout_engine="tight")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pyplot.close(figure)
    return np.array(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
