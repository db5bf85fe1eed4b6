"""Fault campaign: disturb jobs, and compare their results with undisturbed runs.

    python tests/benchmarks/fault_campaign.py --kills 20 --output campaign

Jobs (ingest, pseudo-masks, trainings, relabelling, sweeps, three stages) and faults alternate, at random times: a
worker, the driver or a node is killed, the job gets Ctrl-C or SIGTERM, MLflow's server is killed and started again, its
SQLite file is locked, the job is started a second time, the disk is full and freed, an object store refuses requests. A
job that ends with an error is started again with the same command. Every row must exist once and equal that of the
undisturbed run, byte for byte, and a training must end with the same weights. Its runs in MLflow must have finished
without an error, and have the steps of the undisturbed runs, each once. The campaign writes campaign.json, campaign.md
and campaign.png.
"""

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.helpers.campaign_jobs import Job, jobs
from tests.helpers.fault_injection import (
    MlflowServer,
    Nodes,
    Surroundings,
    bad_store,
    clean,
    fill_disk,
    interrupt,
    kill_driver,
    kill_node,
    kill_worker,
    lock_sqlite,
    logged_steps,
    lose_mlflow,
    small_disk,
    start,
    start_twin,
    terminate,
)

STORES = {"S3 1 %": 0.01, "S3 10 %": 0.1}
"""Faults that last: the share of the requests that the object store of the job's files refuses."""
FAULTS = {
    "worker": kill_worker,
    "driver": kill_driver,
    "node": kill_node,
    "Ctrl-C": interrupt,
    "SIGTERM": terminate,
    "MLflow": lose_mlflow,
    "SQLite": lock_sqlite,
    "twin": start_twin,
    "full disk": fill_disk,
}
MARKERS = dict(zip((*FAULTS, *STORES), "oXs^v*DPhdp", strict=True))
NEEDS = {"train_saliency": "pseudomask", "tune": "pseudomask", "selftrain": "ingest"}
"""The last job whose output another one needs."""
CANNOT = {
    "train": tuple(STORES),
    "train_saliency": ("worker", "node", *STORES),
    "tune": tuple(STORES),
    "selftrain": tuple(STORES),
}
"""Faults that a job cannot have: a student is trained in one process, and only parts are read from an object store."""
MOST_STARTS = 4  # attempts per job
TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class CampaignConfig:
    """Jobs, faults and size of the campaign."""

    kills: int = 20
    """Number of faults."""
    jobs: tuple[str, ...] = ("ingest", "pseudomask", "train", "relabel")
    """Jobs to disturb, in turn."""
    faults: tuple[str, ...] = ("worker", "driver", "node", "Ctrl-C", "SIGTERM", "MLflow", "SQLite")
    """Faults, in turn, so that every job gets every fault. Besides these: twin (the job is started a second time),
    "full disk" (needs the rights of root, to mount a small one), and "S3 1 %", "S3 10 %" (an object store that
    refuses this share of the requests)."""
    pictures: int = 96
    """Number of photographs in the collection."""
    part_size: int = 4
    """Photographs in a part."""
    seed: int = 0
    """Seed of the times and targets of the faults."""
    output: Path = Path("campaign")
    """Folder of the results."""


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


def run(config: CampaignConfig) -> list[Disturbance]:
    """Run the campaign; results are written after every fault."""
    folder = Path(mkdtemp(prefix="campaign-"))
    jobs_by_name = jobs(config.pictures, config.part_size)
    tracking, base, rng = f"sqlite:///{folder}/mlflow.db", folder / "base", random.Random(config.seed)
    base.mkdir()
    undisturbed: dict[str, float] = {}
    order = ("ingest", "pseudomask", "train", "relabel")  # each job needs the output of the one before
    last = max(order.index(NEEDS.get(name, name)) for name in config.jobs)
    needed = [*order[: 1 + last], *(name for name in jobs_by_name if name in config.jobs and name not in order)]
    for job in map(jobs_by_name.__getitem__, needed):
        began = time.monotonic()
        code = start(job, base, tracking, experiment=job.name).wait()
        assert code == 0, (base / "log.txt").read_text()[-3000:]
        undisturbed[job.name] = time.monotonic() - began
        print(f"{job.name}: {undisturbed[job.name]:.1f} s undisturbed", flush=True)
    around = Surroundings(
        nodes=Nodes() if "node" in config.faults else None,
        server=MlflowServer(folder) if "MLflow" in config.faults else None,
        database=folder / "mlflow.db",
    )
    outcomes: list[Disturbance] = []
    try:
        for number in range(config.kills):
            name, fault = strike(config, number)
            job = jobs_by_name[name]
            path = folder / f"kill-{number:03d}"
            with small_disk(path) if fault == "full disk" else nullcontext():
                if fault in STORES:
                    outcomes.append(use_bad_store(job, fault, (base, path), undisturbed[job.name], tracking, rng))
                else:
                    outcomes.append(disturb(job, fault, (base, path), undisturbed[job.name], tracking, rng, around))
            print(f"{number + 1}/{config.kills} {row(outcomes[-1])}", flush=True)
            write(outcomes, config.output)
            shutil.rmtree(path)
    finally:
        if around.nodes:
            around.nodes.close()
        if around.server:
            around.server.kill()
    return outcomes


def strike(config: CampaignConfig, number: int) -> tuple[str, str]:
    """Return the job and the fault of a strike; a job gets the faults that it can have in turn."""
    job = config.jobs[number % len(config.jobs)]
    faults = [fault for fault in config.faults if fault not in CANNOT.get(job, ())]
    return job, faults[(number + number // len(config.jobs)) % len(faults)]


def disturb(
    job: Job,
    fault: str,
    folders: tuple[Path, Path],
    undisturbed: float,
    tracking: str,
    rng: random.Random,
    around: Surroundings,
) -> Disturbance:
    """Start a job, inject a fault at a random time, and restart the job until it succeeds."""
    base, path = folders
    address = around.nodes.address if around.nodes and fault == "node" else None
    store = around.server.uri if around.server and fault == "MLflow" else tracking
    attempt = 0
    delay = undisturbed * rng.uniform(0.3, 1.0)  # earlier, the job only imports modules
    while True:
        job.prepare(base, path)
        began = time.monotonic()
        attempt += 1
        experiment = f"{path.name}-{attempt}"
        running = start(job, path, store, address, experiment)
        try:
            running.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            break
        for each in path.iterdir():  # the job ended before the fault: repeat with an earlier one
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        delay *= 0.7
    problem = FAULTS[fault](running, rng, around)
    starts = 1
    while not ends_well(running) and starts < MOST_STARTS:
        clean(running)
        running = start(job, path, store, address, experiment)
        starts += 1
    clean(running)
    seconds = time.monotonic() - began
    return Disturbance(
        job=job.name,
        fault=fault,
        at=delay / undisturbed,
        starts=starts,
        seconds=seconds,
        undisturbed=undisturbed,
        wrong=problem or compare(job, base, path) or compare_runs(job, tracking, (store, experiment)),
    )


def use_bad_store(
    job: Job, fault: str, folders: tuple[Path, Path], undisturbed: float, tracking: str, rng: random.Random
) -> Disturbance:
    """Run a job whose files lie on an object store that refuses requests, and restart it until it succeeds."""
    base, path = folders
    job.prepare(base, path)
    began = time.monotonic()
    with bad_store(path, STORES[fault], rng.randrange(1 << 30)) as store:
        starts = 0
        while starts < MOST_STARTS:
            running = start(job, path, tracking, experiment=path.name, store=store)
            starts += 1
            if ends_well(running):
                break
            clean(running)
    clean(running)
    return Disturbance(
        job=job.name,
        fault=fault,
        at=0.0,
        starts=starts,
        seconds=time.monotonic() - began,
        undisturbed=undisturbed,
        wrong=compare(job, base, path) or compare_runs(job, tracking, (tracking, path.name)),
    )


def ends_well(running: Any) -> bool:
    """Wait for a job and return whether it succeeded; a job that hangs is killed and counts as failed."""
    try:
        return bool(running.wait(timeout=TIMEOUT_S) == 0)
    except subprocess.TimeoutExpired:
        running.kill()
        return False


def compare(job: Job, base: Path, path: Path) -> str:
    """Return the difference from the undisturbed run, or an empty string."""
    try:
        result, expected = job.result(path), job.result(base)
    except (AssertionError, ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    if leftovers := [file.name for file in path.rglob("*.tmp")]:
        return f"{len(leftovers)} unused temporary files" if result == expected else f"differs; {leftovers}"
    return "" if result == expected else "differs from the undisturbed run"


def compare_runs(job: Job, tracking: str, store: tuple[str, str]) -> str:
    """Return what MLflow says otherwise than in the undisturbed run, or an empty string."""
    try:
        steps, expected = logged_steps(*store), logged_steps(tracking, job.name)
    except AssertionError as error:
        return str(error)
    if len(steps) != len(expected):
        return f"{len(steps)} runs instead of {len(expected)}"
    pairs = zip(steps, expected, strict=True)
    other = sorted({name for a, b in pairs for name in a.keys() | b.keys() if a.get(name) != b.get(name)})
    return f"other steps of {', '.join(other[:3])}" if other else ""


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
    shapes = {fault: MARKERS[fault] for fault in FAULTS if fault in {one.fault for one in outcomes}}
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


def main(config: CampaignConfig) -> None:
    """Run the campaign; exit with 1 if a result is not identical."""
    outcomes = run(config)
    wrong = [one for one in outcomes if one.wrong]
    identical = len(outcomes) - len(wrong)
    print(f"{len(outcomes)} kills: {identical} identical, {len(wrong)} not; see {config.output}/campaign.png")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main(tyro.cli(CampaignConfig, description=__doc__))
