"""The table and the plot of ``bench_three_stage.py``, from the JSON files of its runs.

python -m tests.benchmarks.three_stage_report runs/bench-three-stage
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fss.evaluation.semantic import seed_interval

Runs = dict[str, dict[int, dict[str, Any]]]
"""Content of the files by arm and seed."""
MEASURES = ("val", "train", "unlabelled", "unlabelled flip")
"""Columns: the validation pictures, all training pictures, the unlabelled ones, and these with mirrored passes."""


def read_runs(folder: Path) -> Runs:
    """Return the finished runs in a folder."""
    runs: Runs = {}
    for path in sorted(folder.glob("*-seed-*.json")):
        content = json.loads(path.read_text())
        runs.setdefault(content["arm"], {})[content["seed"]] = content
    return runs


def weights_of(runs: Mapping[int, Mapping[str, Any]]) -> str:
    """Return which weights an arm is scored with: the teacher's, or the better ones on average of a supervised arm."""
    if next(iter(runs.values()))["stage"] > 1:
        return "average"
    return max(("raw", "average"), key=lambda weights: sum(run["scores"][weights]["val"] for run in runs.values()))


def values(runs: Mapping[int, Mapping[str, Any]], measure: str) -> dict[int, float]:
    """Return a measure of an arm by seed."""
    weights = weights_of(runs)
    return {seed: float(run["scores"][weights][measure]) for seed, run in runs.items()}


def mean(runs: Mapping[int, Mapping[str, Any]], measure: str) -> float:
    """Return the mean of a measure over the seeds."""
    return sum(values(runs, measure).values()) / len(runs)


def best_supervised(runs: Runs) -> str | None:
    """Return the supervised arm with the best mean on the validation pictures, among those with the most seeds."""
    arms = {name: each for name, each in runs.items() if next(iter(each.values()))["stage"] == 1}
    most = max((len(each) for each in arms.values()), default=0)
    full = [name for name, each in arms.items() if len(each) == most]
    return max(full, key=lambda name: mean(arms[name], "val"), default=None)


def difference(arm: Mapping[int, Any], other: Mapping[int, Any], measure: str) -> str:
    """Return the mean difference over common seeds in points, with its paired 95 % interval."""
    ours, theirs = values(arm, measure), values(other, measure)
    points = [100 * (ours[seed] - theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    if not points:
        return ""
    if len(points) == 1:
        return f"{points[0]:+.1f}"
    interval = seed_interval(points)
    return f"{interval.mean:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"


def table(runs: Runs, order: Sequence[str]) -> str:
    """Return a Markdown table of all arms, with paired differences to the best supervised arm."""
    reference = best_supervised(runs)
    lines = [
        f"| arm | seeds | {' | '.join(MEASURES)} | val, paired | unlabelled, paired | seconds |",
        f"|---|---|{'---|' * (len(MEASURES) + 3)}",
    ]
    for name in [name for name in order if name in runs]:
        each = runs[name]
        columns = " | ".join(f"{mean(each, measure):.3f}" for measure in MEASURES)
        pairs = ["", ""]
        if reference is not None and name != reference:
            pairs = [difference(each, runs[reference], measure) for measure in ("val", "unlabelled")]
        seconds = sum(run["seconds"] for run in each.values()) / len(each)
        lines.append(f"| {name} | {len(each)} | {columns} | {' | '.join(pairs)} | {seconds:.0f} |")
    note = f"Differences in points to {reference}, with paired 95 % t intervals over the seeds."
    return "\n".join([*lines, "", note])


def plot(runs: Runs, path: Path) -> None:
    """Draw the curves on the validation pictures, means over the seeds."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    for name, each in runs.items():
        steps = sorted(set.intersection(*(set(run["curve"]) for run in each.values())), key=int)
        points = [sum(run["curve"][step] for run in each.values()) / len(each) for step in steps]
        style = "--" if next(iter(each.values()))["stage"] == 1 else "-"
        axes.plot([int(step) for step in steps], points, style, label=f"{name} ({len(each)})")
    axes.set_xlabel("step")
    axes.set_ylabel("val mIoU")
    axes.legend(fontsize="x-small", ncols=2)
    figure.savefig(path)


def write_report(folder: Path, order: Sequence[str] | None = None) -> str:
    """Write ``report.md`` and ``curves.png`` of a folder's runs, and return the table."""
    runs = read_runs(folder)
    text = table(runs, order or list(runs))
    (folder / "report.md").write_text(text + "\n")
    plot(runs, folder / "curves.png")
    return text


def main() -> None:
    """Write the report of a folder, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="--output of the benchmark")
    print(write_report(parser.parse_args().folder))


if __name__ == "__main__":
    main()
