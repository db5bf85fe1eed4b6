"""The outcomes of ``benchmarks/fault_campaign.py`` as JSON, as a table and as a plot."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MARKERS = "oXs^v*DPhdp<>"
"""Markers of the faults in the plot, in the order of their first strikes."""


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """A fault and its outcome."""

    job: str
    """Name of the job."""
    fault: str
    """Kind of fault."""
    at: float
    """Time of the fault as a share of the undisturbed run."""
    starts: int
    """Number of starts; 1 where the job recovered without a restart."""
    seconds: float
    """Seconds until the job succeeded."""
    undisturbed: float
    """Seconds of the undisturbed run."""
    wrong: str
    """Difference from the undisturbed run; empty where there is none."""


def row(one: Disturbance) -> str:
    """Return a line of the table."""
    end = "recovered" if one.starts == 1 else f"{one.starts} starts"
    return (
        f"| {one.job} | {one.fault} | {one.at:.0%} | {end} | {one.seconds:.0f} s ({one.undisturbed:.0f} s) | "
        f"{one.wrong or 'identical'} |"
    )


def write(outcomes: Sequence[Disturbance], out: Path) -> None:
    """Write the outcomes as JSON, as a table and as a plot."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "campaign.json").write_text(json.dumps([asdict(one) for one in outcomes], indent=1) + "\n")
    head = "| job | killed | at | end | took (undisturbed) | result |\n|---|---|---|---|---|---|\n"
    (out / "campaign.md").write_text(head + "\n".join(map(row, outcomes)) + "\n")
    draw(outcomes, out / "campaign.png")


def draw(outcomes: Sequence[Disturbance], path: Path) -> None:
    """Plot the time, kind and cost of each fault."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained")
    when, cost = figure.subplots(1, 2, width_ratios=(1.5, 1))
    names = list(dict.fromkeys(one.job for one in outcomes))
    shapes = dict(zip(dict.fromkeys(one.fault for one in outcomes), MARKERS, strict=False))
    for one in outcomes:
        colour = "tab:red" if one.wrong else "tab:green" if one.starts == 1 else "tab:blue"
        when.scatter(one.at, names.index(one.job), marker=shapes[one.fault], color=colour, s=90, alpha=0.8)
        cost.scatter(one.undisturbed, one.seconds, marker=shapes[one.fault], color=colour, s=60, alpha=0.8)
    wrong = sum(bool(one.wrong) for one in outcomes)
    when.set(title=f"{len(outcomes)} faults, {len(outcomes) - wrong} results identical, {wrong} not", xlim=(0, 1.05))
    when.set(xlabel="time of the fault, as a share of the undisturbed run", yticks=range(len(names)), yticklabels=names)
    for shape, marker in shapes.items():
        when.scatter([], [], marker=marker, color="grey", label=shape)
    for label, colour in (("recovered", "green"), ("restarted", "blue"), ("not identical", "red")):
        when.scatter([], [], color=f"tab:{colour}", label=label)
    when.legend(loc="upper left", fontsize=8)
    most = max(one.seconds for one in outcomes)
    cost.plot([0, most], [0, most], color="grey", linewidth=0.8)
    cost.set(title="time until success", xlabel="undisturbed, s", ylabel="disturbed, s")
    figure.savefig(path)
