"""Jobs to disturb, ways to disturb them, and what must come of it: the parts of ``benchmarks/fault_campaign.py``."""

import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
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


def start(
    job: Job, place: Path, tracking: str, address: str | None = None, experiment: str = "fss"
) -> "subprocess.Popen[bytes]":
    """Start a job in a process group of its own, with a mark that all its processes inherit."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": str(ROOT), MARK: uuid.uuid4().hex} | ({"RAY_ADDRESS": address} if address else {})
    words = [sys.executable, "-m", f"pipelines.{job.name}", *job.words(place), "--tracking.uri", tracking]
    words += ["--tracking.experiment", experiment]
    with (place / "log.txt").open("ab") as log:
        running = subprocess.Popen(words, stdout=log, stderr=log, env=environment, cwd=place, start_new_session=True)
    running.mark = environment[MARK]  # type: ignore[attr-defined]
    return running


@dataclass(kw_only=True)
class Surroundings:
    """What a job needs besides its own processes."""

    nodes: "Nodes | None" = None
    """Cluster of the jobs that lose a node."""
    server: "MlflowServer | None" = None
    """Tracking server of the jobs that lose it."""
    database: Path | None = None
    """SQLite store of the other jobs."""


# A fault takes the running job, draws and the surroundings, and returns what went wrong with it already, or nothing.


def kill_worker(running: Any, draws: random.Random, around: Any) -> str:
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


def kill_driver(running: Any, draws: random.Random, around: Any) -> str:
    """Kill the job's own process, and then everything that it started."""
    running.kill()
    clean(running)
    return ""


def interrupt(running: Any, draws: random.Random, around: Any) -> str:
    """Press Ctrl-C, which reaches all processes of the terminal; the job must end by itself, and say so."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGINT)
    return _ends_with(running, "Ctrl-C", 130)


def terminate(running: Any, draws: random.Random, around: Any) -> str:
    """Tell the job to stop, as Kubernetes and spot machines do; the job must end by itself, and say so."""
    running.terminate()
    return _ends_with(running, "SIGTERM", 143)


def _ends_with(running: Any, name: str, expected: int) -> str:
    try:
        code = running.wait(timeout=120)
    except subprocess.TimeoutExpired:
        return f"{name} was not heeded for two minutes"
    return "" if code in (0, expected) else f"{name} ended with {code}"


def kill_node(running: Any, draws: random.Random, around: Any) -> str:
    """Take one of the cluster's machines away without warning, and bring another."""
    around.nodes.lose(draws)
    return ""


def lose_mlflow(running: Any, draws: random.Random, around: Any) -> str:
    """Kill MLflow's server, and start it again after a while; the job must go on meanwhile."""
    around.server.kill()
    time.sleep(draws.uniform(2, 15))
    code = running.poll()
    around.server.start()
    return "" if code in (None, 0, 3) else f"the job ended with {code} without MLflow"


def lock_sqlite(running: Any, draws: random.Random, around: Any) -> str:
    """Lock the SQLite store for longer than MLflow waits; the job must go on meanwhile."""
    with sqlite3.connect(around.database, timeout=60, isolation_level=None) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(draws.uniform(21, 30))
        code = running.poll()
        connection.execute("ROLLBACK")
    connection.close()
    return "" if code in (None, 0, 3) else f"the job ended with {code} while the store was locked"


def logged_steps(tracking: str, experiment: str) -> dict[str, list[int]]:
    """Return the steps of all curves of the only run of an experiment, which must have finished without an error.

    Metrics of the machine are left out, since their number depends on the time.

    Raises:
        AssertionError: there are several runs, or the run is open, has failed, or has the error of an earlier attempt.
    """
    from fss.tracking.run import tracking_client

    client = tracking_client(tracking)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    states = [(run.info.status, run.data.tags.get("fss.error")) for run in runs]
    assert states == [("FINISHED", None)], f"runs of MLflow: {states}"
    names = [name for name in runs[0].data.metrics if not name.startswith("system/")]
    histories = {name: client.get_metric_history(runs[0].info.run_id, name) for name in names}
    return {name: sorted(point.step for point in points) for name, points in histories.items()}


def clean(running: Any) -> None:
    """Kill whatever a job has left behind."""
    running.wait() if running.poll() is not None else None
    for pid, _ in _processes(running.mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class MlflowServer:
    """A tracking server on this machine, in a folder."""

    def __init__(self, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        stores = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        stores += ["--artifacts-destination", str(self.folder / "artifacts")]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        with (self.folder / "server.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words, *stores],
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return
            assert self.process.poll() is None, (self.folder / "server.txt").read_text()[-2000:]
            time.sleep(0.2)
        raise TimeoutError("MLflow's server did not start in three minutes")

    def kill(self) -> None:
        """Kill it with all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


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
