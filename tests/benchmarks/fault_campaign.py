"""Fault campaign: disturb jobs, and compare their results with undisturbed runs.

    python -m tests.benchmarks.fault_campaign --kills 20 --output campaign

Jobs (ingest, pseudo-masks, trainings, relabelling, sweeps, three stages) and faults alternate, at random times: a
worker, the driver or a node is killed, the job gets Ctrl-C or SIGTERM, MLflow's server is killed and started again, its
SQLite file is locked, the job is started a second time, the disk is full and freed, an object store refuses requests. A
job that ends with an error is started again with the same command. Every row must exist once and equal that of the
undisturbed run, byte for byte, and a training must end with the same weights. Its runs in MLflow must have finished
without an error, and have the steps of the undisturbed runs, each once. The campaign writes campaign.json, campaign.md
and campaign.png, and keeps the log of a job whose result is wrong.
"""

import random
import shutil
import subprocess
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import tyro

from tests.helpers.campaign_jobs import Job, compare_without, images, jobs
from tests.helpers.campaign_report import Disturbance, row, write
from tests.helpers.fault_injection import (
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
from tests.helpers.surroundings import MlflowServer, Nodes, Surroundings

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
POISON = "poison"
"""A fault that lasts: a picture ends every process that decodes it."""
NEEDS = {"train_saliency": "pseudomask", "tune": "pseudomask", "selftrain": "ingest"}
"""The last job whose output another one needs."""
CANNOT = {
    "relabel": (POISON,),
    "train": (POISON, *STORES),
    "train_saliency": ("worker", "node", POISON, *STORES),
    "tune": (POISON, *STORES),
    "selftrain": (POISON, *STORES),
}
"""Faults that a job cannot have: a student is trained in one process, only parts are read from an object store or made
without a picture, and the neighbours of relabelled masks are others without it."""
MOST_STARTS = 4  # attempts per job
TIMEOUT_S, TIMES = 300.0, 6
"""A start hangs after this time, and after this multiple of the undisturbed run on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class CampaignConfig:
    """Jobs, faults and size of the campaign."""

    kills: int = 20
    """Number of faults."""
    jobs: tuple[str, ...] = ("ingest", "pseudomask", "train", "relabel")
    """Jobs to disturb, in turn."""
    faults: tuple[str, ...] = ("worker", "driver", "node", "Ctrl-C", "SIGTERM", "MLflow", "SQLite")
    """Faults, in turn, so that every job gets every fault. Besides these: twin (the job is started a second time),
    "full disk" (needs the rights of root, to mount a small one), "S3 1 %", "S3 10 %" (an object store that refuses
    this share of the requests), and poison (a picture that ends every process that decodes it)."""
    pictures: int = 96
    """Number of photographs in the collection."""
    part_size: int = 4
    """Photographs in a part."""
    seed: int = 0
    """Seed of the times and targets of the faults."""
    output: Path = Path("campaign")
    """Folder of the results."""


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
                elif fault == POISON:
                    outcomes.append(poison(job, (base, path), undisturbed[job.name], tracking, rng))
                else:
                    outcomes.append(disturb(job, fault, (base, path), undisturbed[job.name], tracking, rng, around))
            print(f"{number + 1}/{config.kills} {row(outcomes[-1])}", flush=True)
            write(outcomes, config.output)
            if outcomes[-1].wrong:
                shutil.copy(path / "log.txt", config.output / f"{path.name}.txt")
            shutil.rmtree(path)
    finally:
        if around.nodes:
            around.nodes.close()
        if around.server:
            around.server.kill()
    return outcomes


def strike(config: CampaignConfig, number: int) -> tuple[str, str]:
    """Return the job and the fault of a strike; a job gets the faults that it can have in turn."""
    turn, index = divmod(number, len(config.jobs))
    job = config.jobs[index]
    faults = [fault for fault in config.faults if fault not in CANNOT.get(job, ())]
    return job, faults[(index + turn) % len(faults)]


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
    starts, ended = 1, ends_well(running, undisturbed)
    while not ended and starts < MOST_STARTS:
        clean(running)
        running = start(job, path, store, address, experiment)
        starts, ended = starts + 1, ends_well(running, undisturbed)
    clean(running)
    seconds = time.monotonic() - began
    return Disturbance(
        job=job.name,
        fault=fault,
        at=delay / undisturbed,
        starts=starts,
        seconds=seconds,
        undisturbed=undisturbed,
        wrong=problem or unended(ended) or compare(job, base, path) or compare_runs(job, tracking, (store, experiment)),
    )


def use_bad_store(
    job: Job, fault: str, folders: tuple[Path, Path], undisturbed: float, tracking: str, rng: random.Random
) -> Disturbance:
    """Run a job whose files lie on an object store that refuses requests, and restart it until it succeeds."""
    base, path = folders
    job.prepare(base, path)
    began = time.monotonic()
    with bad_store(path, STORES[fault], rng.randrange(1 << 30)) as store:
        starts, ended = 0, False
        while not ended and starts < MOST_STARTS:
            running = start(job, path, tracking, experiment=path.name, store=store)
            starts, ended = starts + 1, ends_well(running, undisturbed)
            clean(running)
    return Disturbance(
        job=job.name,
        fault=fault,
        at=0.0,
        starts=starts,
        seconds=time.monotonic() - began,
        undisturbed=undisturbed,
        wrong=unended(ended) or compare(job, base, path) or compare_runs(job, tracking, (tracking, path.name)),
    )


def poison(job: Job, folders: tuple[Path, Path], undisturbed: float, tracking: str, rng: random.Random) -> Disturbance:
    """Run a job with a picture that ends every process that decodes it; the job must go on without it, and say so."""
    base, path = folders
    picture = rng.choice([row["image_id"] for row in images(base) if not row["error"]])
    job.prepare(base, path)
    began = time.monotonic()
    running = start(job, path, tracking, experiment=path.name, poison=picture)
    noted = ends_well(running, undisturbed, code=3)
    clean(running)
    return Disturbance(
        job=job.name,
        fault=POISON,
        at=0.0,
        starts=1,
        seconds=time.monotonic() - began,
        undisturbed=undisturbed,
        wrong=("" if noted else f"it ended with {running.returncode}")
        or compare(job, base, path, without=picture)
        or compare_runs(job, tracking, (tracking, path.name), faulty=True),
    )


def ends_well(running: Any, undisturbed: float, code: int = 0) -> bool:
    """Wait for a job and return whether it ended as it should; a job that hangs is killed and counts as failed."""
    try:
        return bool(running.wait(timeout=max(TIMEOUT_S, TIMES * undisturbed)) == code)
    except subprocess.TimeoutExpired:
        running.kill()
        return False


def unended(ended: bool) -> str:
    """Return what is wrong with a job that failed in every start, or an empty string."""
    return "" if ended else f"it did not succeed in {MOST_STARTS} starts"


def compare(job: Job, base: Path, path: Path, *, without: str | None = None) -> str:
    """Return the difference from the undisturbed run, in all but the picture ``without``, or an empty string."""
    try:
        if without is not None:
            return compare_without(job, base, path, without)
        result, expected = job.result(path), job.result(base)
    except (AssertionError, ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    if leftovers := [file.name for file in path.rglob("*.tmp")]:
        return f"{len(leftovers)} unused temporary files" if result == expected else f"differs; {leftovers}"
    return "" if result == expected else "differs from the undisturbed run"


def compare_runs(job: Job, tracking: str, store: tuple[str, str], *, faulty: bool = False) -> str:
    """Return what MLflow says otherwise than in the undisturbed run, or an empty string.

    With ``faulty``, pictures are put aside, which have counts of their own.
    """
    try:
        steps, expected = logged_steps(*store), logged_steps(tracking, job.name)
    except AssertionError as error:
        return str(error)
    if len(steps) != len(expected):
        return f"{len(steps)} runs instead of {len(expected)}"
    pairs = zip(steps, expected, strict=True)
    other = sorted({name for a, b in pairs for name in a.keys() | b.keys() if a.get(name) != b.get(name)})
    other = [name for name in other if not (faulty and name.endswith("_faulty"))]
    return f"other steps of {', '.join(other[:3])}" if other else ""


def main(config: CampaignConfig) -> None:
    """Run the campaign; exit with 1 if a result is not identical."""
    outcomes = run(config)
    wrong = [one for one in outcomes if one.wrong]
    identical = len(outcomes) - len(wrong)
    print(f"{len(outcomes)} kills: {identical} identical, {len(wrong)} not; see {config.output}/campaign.png")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main(tyro.cli(CampaignConfig, description=__doc__))
