"""Ways to disturb a job, and what MLflow must say in the end: the parts of ``benchmarks/fault_campaign.py``."""

import json
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from fss.core import storage
from tests.helpers.campaign_jobs import Job
from tests.helpers.flaky_store import faulty_store

ROOT = Path(__file__).parents[2]
MARK = "FSS_CAMPAIGN_MARK"
BUCKET = "s3://campaign"
RESULTS = ("kept/", "total/")
"""Beginnings of the names of results in MLflow."""


def start(
    job: Job,
    place: Path,
    tracking: str,
    address: str | None = None,
    experiment: str = "fss",
    store: dict[str, str] | None = None,
    poison: str | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a job in a process group of its own, with a mark that all its processes inherit.

    Args:
        job: the job.
        place: its folder.
        tracking: URI of MLflow.
        address: Ray cluster to join; None starts one.
        experiment: experiment of MLflow.
        store: environment of an object store that holds the place as ``BUCKET`` and its name; None: a local disk.
        poison: id of a picture that ends every process that decodes it.
    """
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": str(ROOT), MARK: uuid.uuid4().hex} | ({"RAY_ADDRESS": address} if address else {})
    words = [sys.executable, "-m", f"pipelines.{job.name}", *job.words(place), "--tracking.uri", tracking]
    words += ["--tracking.experiment", experiment]
    if store is not None:
        environment |= store
        words = [word.replace(str(place), f"{BUCKET}/{place.name}") for word in words]
    if poison is not None:
        folders = os.pathsep.join([str(ROOT / "tests" / "helpers" / "poison"), str(ROOT)])
        environment |= {"PYTHONPATH": folders, "FSS_CAMPAIGN_POISON": poison.split("-")[0]}
    with (place / "log.txt").open("ab") as log:
        running = subprocess.Popen(words, stdout=log, stderr=log, env=environment, cwd=place, start_new_session=True)
    running.mark = environment[MARK]  # type: ignore[attr-defined]
    running.again = lambda: start(job, place, tracking, address, experiment)  # type: ignore[attr-defined]
    running.place = place  # type: ignore[attr-defined]
    return running


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


def start_twin(running: Any, draws: random.Random, around: Any) -> str:
    """Start the same job a second time beside the first; it must be told that another job writes, and touch nothing."""
    length = (running.place / "log.txt").stat().st_size
    twin = running.again()
    try:
        code = twin.wait(timeout=240)
    except subprocess.TimeoutExpired:
        return "a twin did not end in four minutes"
    finally:
        clean(twin)
    log = (running.place / "log.txt").read_bytes()[length:].decode(errors="replace")
    if code == 0:
        return "" if "this job had finished before" in log else "a twin ran beside the first"
    told = "another job writes" in log
    return "" if code == 2 and told else f"a twin ended with {code} and was not told of the first"


def fill_disk(running: Any, draws: random.Random, around: Any) -> str:
    """Fill the disk of the job, a small one of its own, and free it later; the job may end, and must say so."""
    ballast = running.place / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    with suppress(subprocess.TimeoutExpired):
        running.wait(timeout=draws.uniform(5, 20))
    code = running.poll()
    ballast.unlink()
    log = (running.place / "log.txt").read_text(errors="replace")
    told = "no space left" in log or (code == 1 and not log.endswith("\n"))  # the log lies on the full disk too
    return "" if code in (None, 0, 3) or told else f"the job ended with {code} on a full disk and did not say so"


@contextmanager
def bad_store(place: Path, errors: float, seed: int) -> Iterator[dict[str, str]]:
    """Bring a place to an object store that refuses a share of the requests, and the results back after the block.

    Yields:
        The environment of the store, for :func:`start`.
    """
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    good = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": "us-east-1"}
    good |= {"AWS_ACCESS_KEY_ID": "campaign", "AWS_SECRET_ACCESS_KEY": "campaign"}
    os.environ.update(good)
    try:
        filesystem, path = storage.resolve(f"{BUCKET}/{place.name}")
        s3 = pafs.S3FileSystem(endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True)
        s3.create_dir(path.split("/")[0])
        pafs.copy_files(str(place), path, destination_filesystem=filesystem)
        with faulty_store(good["AWS_ENDPOINT_URL"], errors=errors, seed=seed) as (address, _):
            yield {**good, "AWS_ENDPOINT_URL": address}
        shutil.rmtree(place / "c", ignore_errors=True)
        pafs.copy_files(path, str(place), source_filesystem=filesystem)
    finally:
        for name in good:
            del os.environ[name]
        server.stop()


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """Mount a disk of its own at a place for the length of a block; it needs the rights of root."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def logged_steps(tracking: str, experiment: str) -> list[dict[str, list[int]]]:
    """Return the steps of all curves of the runs of an experiment, which must have finished without an error.

    Metrics of the machine are left out, since their number depends on the time. A result, which lies at step 0, counts
    once, also where a job has logged it again. Sweeps and stages have several runs.

    Raises:
        AssertionError: a run is open, has failed, or has the error of an earlier attempt.
    """
    from fss.tracking.run import tracking_client

    client = tracking_client(tracking)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    states = [(run.info.status, run.data.tags.get("fss.error")) for run in runs]
    assert set(states) == {("FINISHED", None)}, f"runs of MLflow: {states}"
    curves = []
    for run in runs:
        names = [name for name in run.data.metrics if not name.startswith("system/")]
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in names}
        steps = {name: sorted(point.step for point in points) for name, points in histories.items()}
        curves.append({name: [0] if name.startswith(RESULTS) else each for name, each in steps.items()})
    return sorted(curves, key=lambda each: json.dumps(each, sort_keys=True))


def clean(running: Any) -> None:
    """Kill whatever a job has left behind."""
    running.wait() if running.poll() is not None else None
    for pid, _ in _processes(running.mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _processes(mark: str) -> Iterator[tuple[int, bytes]]:
    """The processes with a mark in their environment, and their command lines."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                yield int(process.name), (process / "cmdline").read_bytes()
