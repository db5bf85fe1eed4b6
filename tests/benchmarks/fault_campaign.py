"""Kill workers, drivers and nodes, press Ctrl-C, at random times, and hold what comes of it against undisturbed runs.

    python tests/benchmarks/fault_campaign.py --kills 20 --output campaign

Ingest, pseudo-masks, training and relabelling take turns, and so do the faults. A job that ends with an error is
started again with the same command, as a person would. Every row must be there once and be that of the undisturbed
run, byte for byte; a training must end with the very same weights. Writes campaign.json, campaign.md, campaign.png.
"""

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.helpers.fault_injection import Job, Nodes, clean, interrupt, jobs, kill_driver, kill_node, kill_worker, start

FAULTS = {"worker": kill_worker, "driver": kill_driver, "node": kill_node, "Ctrl-C": interrupt}
STARTS = 4  # of a job at most
PATIENCE_S = 300.0


@dataclass(frozen=True, kw_only=True)
class CampaignConfig:
    """What is disturbed, how often."""

    kills: int = 20
    """Faults in all."""
    jobs: tuple[str, ...] = ("ingest", "pseudomask", "train", "relabel")
    """Jobs to disturb, in turn."""
    faults: tuple[str, ...] = ("worker", "driver", "node", "Ctrl-C")
    """Faults, in turn, so that every job meets every one."""
    pictures: int = 96
    """Photographs of the collection."""
    part_size: int = 4
    """Photographs in a part."""
    seed: int = 0
    """Draws the times and the victims."""
    output: Path = Path("campaign")
    """Folder for table and figure."""


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """One fault and what came of it."""

    job: str
    """The job."""
    fault: str
    """What was killed."""
    at: float
    """When, as a share of the undisturbed run's time."""
    starts: int
    """How often the command was given; 1: the job went on by itself."""
    seconds: float
    """Until it was done."""
    undisturbed: float
    """Seconds of the undisturbed run."""
    wrong: str
    """What is not as in the undisturbed run; empty where nothing is."""


def run(config: CampaignConfig) -> list[Disturbance]:
    """Do it all; the record is written after every fault."""
    home = Path(mkdtemp(prefix="campaign-"))
    known = jobs(config.pictures, config.part_size)
    tracking, base, draws = f"sqlite:///{home}/mlflow.db", home / "base", random.Random(config.seed)
    base.mkdir()
    usual: dict[str, float] = {}
    for job in known.values():  # each makes what the next one needs
        began = time.monotonic()
        code = start(job, base, tracking).wait()
        assert code == 0, (base / "log.txt").read_text()[-3000:]
        usual[job.name] = time.monotonic() - began
        print(f"{job.name}: {usual[job.name]:.1f} s undisturbed", flush=True)
    nodes = Nodes() if "node" in config.faults else None
    done: list[Disturbance] = []
    try:
        for number in range(config.kills):
            job = known[config.jobs[number % len(config.jobs)]]
            fault = config.faults[(number + number // len(config.jobs)) % len(config.faults)]
            place = home / f"kill-{number:03d}"
            done.append(disturb(job, fault, (base, place), usual[job.name], tracking, draws, nodes))
            print(f"{number + 1}/{config.kills} {row(done[-1])}", flush=True)
            write(done, config.output)
            shutil.rmtree(place)
    finally:
        if nodes:
            nodes.close()
    return done


def disturb(
    job: Job,
    fault: str,
    places: tuple[Path, Path],
    usual: float,
    tracking: str,
    draws: random.Random,
    nodes: Nodes | None,
) -> Disturbance:
    """Start a job, kill something at a random time, and see it to its end."""
    base, place = places
    address = nodes.address if nodes and fault == "node" else None
    delay = usual * draws.uniform(0.3, 1.0)  # before, nothing but imports goes on
    while True:
        job.prepare(base, place)
        began = time.monotonic()
        running = start(job, place, tracking, address)
        try:
            running.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            break
        shutil.rmtree(place)  # it had ended before the fault: once more, and sooner
        delay *= 0.7
    problem = FAULTS[fault](running, draws, nodes)
    starts = 1
    while not ends_well(running) and starts < STARTS:
        clean(running)
        running = start(job, place, tracking, address)
        starts += 1
    clean(running)
    seconds = time.monotonic() - began
    return Disturbance(
        job=job.name,
        fault=fault,
        at=delay / usual,
        starts=starts,
        seconds=seconds,
        undisturbed=usual,
        wrong=problem or compare(job, base, place),
    )


def ends_well(running: Any) -> bool:
    """Wait for a job; one that hangs is killed, and counts as ended badly."""
    try:
        return bool(running.wait(timeout=PATIENCE_S) == 0)
    except subprocess.TimeoutExpired:
        running.kill()
        return False


def compare(job: Job, base: Path, place: Path) -> str:
    """Say what differs from the undisturbed run."""
    try:
        made, expected = job.result(place), job.result(base)
    except (AssertionError, ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    if left := [path.name for path in place.rglob("*.tmp")]:
        return f"{len(left)} temporary files are left, which nobody reads" if made == expected else f"differs; {left}"
    return "" if made == expected else "differs from the undisturbed run"


def row(one: Disturbance) -> str:
    """One line of the table."""
    end = "went on by itself" if one.starts == 1 else f"{one.starts} starts"
    return (
        f"| {one.job} | {one.fault} | {one.at:.0%} | {end} | {one.seconds:.0f} s ({one.undisturbed:.0f} s) | "
        f"{one.wrong or 'identical'} |"
    )


def write(done: Sequence[Disturbance], out: Path) -> None:
    """Write record, table and figure."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "campaign.json").write_text(json.dumps([asdict(one) for one in done], indent=1) + "\n")
    head = "| job | killed | at | end | took (undisturbed) | result |\n|---|---|---|---|---|---|\n"
    (out / "campaign.md").write_text(head + "\n".join(map(row, done)) + "\n")
    draw(done, out / "campaign.png")


def draw(done: Sequence[Disturbance], path: Path) -> None:
    """Draw when each fault came, what it was, and what it cost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained")
    when, cost = figure.subplots(1, 2, width_ratios=(1.5, 1))
    names = list(dict.fromkeys(one.job for one in done))
    shapes = {"worker": "o", "driver": "X", "node": "s", "Ctrl-C": "^"}
    for one in done:
        colour = "tab:red" if one.wrong else "tab:green" if one.starts == 1 else "tab:blue"
        when.scatter(one.at, names.index(one.job), marker=shapes[one.fault], color=colour, s=90, alpha=0.8)
        cost.scatter(one.undisturbed, one.seconds, marker=shapes[one.fault], color=colour, s=60, alpha=0.8)
    wrong = sum(bool(one.wrong) for one in done)
    when.set(title=f"{len(done)} kills, {len(done) - wrong} results identical, {wrong} not", xlim=(0, 1.05))
    when.set(xlabel="when, as a share of the undisturbed run", yticks=range(len(names)), yticklabels=names)
    for shape, marker in shapes.items():
        when.scatter([], [], marker=marker, color="grey", label=shape)
    for label, colour in (("went on by itself", "green"), ("started again", "blue"), ("not identical", "red")):
        when.scatter([], [], color=f"tab:{colour}", label=label)
    when.legend(loc="upper left", fontsize=8)
    most = max(one.seconds for one in done)
    cost.plot([0, most], [0, most], color="grey", linewidth=0.8)
    cost.set(title="time until done", xlabel="undisturbed, s", ylabel="disturbed, s")
    figure.savefig(path)


def main(config: CampaignConfig) -> None:
    """Run, and fail where something is not identical."""
    done = run(config)
    wrong = [one for one in done if one.wrong]
    print(f"{len(done)} kills: {len(done) - len(wrong)} identical, {len(wrong)} not; see {config.output}/campaign.png")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main(tyro.cli(CampaignConfig, description=__doc__))
