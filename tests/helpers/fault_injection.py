"""Jobs to disturb, ways to disturb them, and what must come of it: the parts of ``benchmarks/fault_campaign.py``."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fss.collection import Collection

ROOT = Path(__file__).parents[2]
MARK = "FSS_CAMPAIGN_MARK"
SMALL = ["--backbone", "timm:test_resnet.r160_in1k", "--image-size", "80", "--width", "32"]
STREAM = ["--batch-size", "4", "--lanes", "2", "--held-out", "0.2"]
STEPS = ["--steps", "24", "--checkpoint-every", "4", "--no-log-model"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of the campaign."""

    name: str
    """The pipeline."""
    words: Callable[[Path], list[str]]
    """Its command line, for a place."""
    prepare: Callable[[Path, Path], None]
    """Bring what it needs from the base to its place."""
    result: Callable[[Path], Any]
    """What it has made, to be compared."""


def jobs(pictures: int, part_size: int) -> dict[str, Job]:
    """The four jobs, each small, each from the results of the one before."""
    source = ["--source.kind", "sample", "--source.count", str(pictures), "--part-size", str(part_size)]

    def collection(place: Path) -> list[str]:
        return ["--collection", str(place / "c")]

    def copied(base: Path, place: Path) -> None:
        shutil.copytree(base / "c", place / "c", ignore=shutil.ignore_patterns("saliency", "round-1"))

    def masked(base: Path, place: Path) -> None:
        shutil.copytree(base / "c", place / "c", ignore=shutil.ignore_patterns("round-1"))

    def relabel(place: Path) -> list[str]:
        model = str(place.parent / "base" / "models" / "t" / "model")
        return [*collection(place), "--model", model, "--output-mask-set", "round-1", "--workers", "2"]

    def train(place: Path) -> list[str]:
        return [*collection(place), "--output", str(place / "models"), "--name", "t", *SMALL, *STREAM, *STEPS]

    return {
        job.name: job
        for job in (
            Job(
                name="ingest",
                words=lambda place: [*collection(place), *source, "--workers", "2"],
                prepare=lambda base, place: place.mkdir(),
                result=images,
            ),
            Job(
                name="pseudomask",
                words=lambda place: [*collection(place), "--workers", "2"],
                prepare=copied,
                result=lambda place: masks(place, "saliency"),
            ),
            Job(name="train", words=train, prepare=masked, result=weights),
            Job(name="relabel", words=relabel, prepare=masked, result=lambda place: masks(place, "round-1")),
        )
    }


def images(place: Path) -> list[Any]:
    """Every row of the photographs, in order; all complete and unique."""
    collection = Collection.open(str(place / "c"))
    rows = [row for part in collection.part_names() for row in collection.read_part(part).to_pylist()]
    assert len({row["image_id"] for row in rows}) == len(rows), "an image is there twice"
    return rows


def masks(place: Path, name: str) -> list[Any]:
    """Every row of a mask set, in order, and what is accepted; one for every photograph."""
    collection = Collection.open(str(place / "c"))
    found = collection.mask_set(name)
    assert found.finished_parts() == set(collection.part_names()), "parts are missing"
    rows = [row for part in collection.part_names() for row in found.read_part(part).to_pylist()]
    assert [row["image_id"] for row in rows] == [row["image_id"] for row in images(place)], "rows are missing"
    return [*rows, sorted(found.read_acceptance("default").accepted)]


def weights(place: Path) -> bytes:
    """The trained model, byte for byte."""
    return (place / "models" / "t" / "model" / "model.safetensors").read_bytes()


def start(job: Job, place: Path, tracking: str, address: str | None = None) -> "subprocess.Popen[bytes]":
    """Start a job in a process group of its own, with a mark that all its processes inherit."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": str(ROOT), MARK: uuid.uuid4().hex} | ({"RAY_ADDRESS": address} if address else {})
    words = [sys.executable, "-m", f"pipelines.{job.name}", *job.words(place), "--tracking.uri", tracking]
    with (place / "log.txt").open("ab") as log:
        running = subprocess.Popen(words, stdout=log, stderr=log, env=environment, cwd=place, start_new_session=True)
    running.mark = environment[MARK]  # type: ignore[attr-defined]
    return running


# A fault takes the running job, draws and the cluster, and returns what went wrong with it already, or nothing.


def kill_worker(running: Any, draws: random.Random, nodes: Any) -> str:
    """Kill one of the job's Ray workers, at random; waits for the first where there is none yet."""
    deadline = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < deadline:
        found = [(pid, name.split(b"\0")[0].strip()) for pid, name in _processes(running.mark)]
        # Agents call themselves so too, but belong to the node: it dies with them.
        workers = sorted(pid for pid, name in found if name.startswith(b"ray::") and not name.endswith(b"Agent"))
        if workers:
            with suppress(ProcessLookupError):
                os.kill(draws.choice(workers), signal.SIGKILL)
                return ""
        time.sleep(0.05)
    return "" if running.poll() is not None else "there was no worker for a minute"


def kill_driver(running: Any, draws: random.Random, nodes: Any) -> str:
    """Kill the job's own process, and then everything that it started."""
    running.kill()
    clean(running)
    return ""


def interrupt(running: Any, draws: random.Random, nodes: Any) -> str:
    """Press Ctrl-C, which reaches all processes of the terminal; the job must end by itself, and say so."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGINT)
    try:
        code = running.wait(timeout=120)
    except subprocess.TimeoutExpired:
        return "Ctrl-C was not heeded for two minutes"
    return "" if code in (0, 130) else f"Ctrl-C ended with {code}"


def kill_node(running: Any, draws: random.Random, nodes: Any) -> str:
    """Take one of the cluster's machines away without warning, and bring another."""
    nodes.lose(draws)
    return ""


def clean(running: Any) -> None:
    """Kill whatever a job has left behind."""
    running.wait() if running.poll() is not None else None
    for pid, _ in _processes(running.mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Nodes:
    """A cluster of three Ray nodes on this machine; the head runs no tasks."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.others = [self._another() for _ in range(2)]

    @property
    def address(self) -> str:
        """Where drivers join."""
        return str(self.cluster.address)

    def lose(self, draws: random.Random) -> None:
        """Lose a node at once; another comes in its place."""
        lost = self.others.pop(draws.randrange(len(self.others)))
        self.cluster.remove_node(lost, allow_graceful=False)
        self.others.append(self._another())

    def close(self) -> None:
        """Stop all nodes."""
        self.cluster.shutdown()  # type: ignore[no-untyped-call]

    def _another(self) -> Any:
        return self.cluster.add_node(num_cpus=3)


def _processes(mark: str) -> Iterator[tuple[int, bytes]]:
    """The processes with a mark in their environment, and their command lines."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                yield int(process.name), (process / "cmdline").read_bytes()
