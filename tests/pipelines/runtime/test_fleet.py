"""Jobs on a cluster whose head has no CPUs: machines join and die, and nothing is lost or made twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from ray._private.node import Node
from ray._private.services import node_ip_address_from_perspective
from ray.cluster_utils import Cluster

from fss.core.exit_codes import TERMINATED
from tests.helpers.campaign_jobs import SMALL, STREAM, masks
from tests.helpers.fault_injection import ROOT

pytestmark = pytest.mark.slow
PICTURES, PART_SIZE = 240, 4
Paint = Callable[..., str]
GPU_STAGE = """
import time
from pipelines.runtime.map_parts import OnActors, run_parts
from pipelines.runtime.ray_session import ray_session

def make(names):
    for name in names:
        yield name, {"images": 1}

with ray_session():
    names = [f"part-{number:05d}" for number in range(4)]
    result = run_parts(names, OnActors(function=make, actors=None, gpus=1), stage="gpu")
    assert result.made == 4
"""


class Fleet:
    """A head without CPUs and GPUs, and the machines that join it."""

    def __init__(self) -> None:
        # Said aloud: beside the suite's own Ray, which keeps to the loopback, Ray would give the nodes that address.
        self._shared = {"node_ip_address": node_ip_address_from_perspective(), "object_store_memory": 2**27}
        head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, **self._shared}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)

    def join(self, *, cpus: int, gpus: int = 0) -> Node:
        """Let a machine join."""
        return self.cluster.add_node(num_cpus=cpus, num_gpus=gpus, **self._shared)

    def die(self, node: Node) -> None:
        """Take a machine away without warning."""
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    started = Fleet()
    yield started
    started.cluster.shutdown()  # type: ignore[no-untyped-call]


def start(folder: Path, *words: str, address: str | None) -> "subprocess.Popen[bytes]":
    """Start a Python process whose output goes to log.txt of a folder."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": str(ROOT), "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120"}
    environment |= {"RAY_ADDRESS": address} if address else {}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen([sys.executable, *words], stdout=log, stderr=log, env=environment, cwd=folder)


def wait_for(job: "subprocess.Popen[bytes]", folder: Path, there: Callable[[], bool]) -> float:
    """Wait until something is there while the job runs, and return the seconds."""
    began = time.monotonic()
    while not there():
        assert job.poll() is None, log(folder)
        assert time.monotonic() < began + 200, log(folder)
        time.sleep(0.02)
    return time.monotonic() - began


def log(folder: Path) -> str:
    return (folder / "log.txt").read_text()


def test_a_job_loses_a_machine_gains_one_and_is_stopped(fleet: Fleet, paint: Paint, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    places = {name: tmp_path / name for name in ("undisturbed", "disturbed")}
    for place in places.values():
        paint(place / "c", count=PICTURES, part_size=PART_SIZE)

    def command(place: Path) -> tuple[str, ...]:
        return ("-m", "pipelines.pseudomask", "--collection", str(place / "c"), "--tracking.uri", store)

    alone = start(places["undisturbed"], *command(places["undisturbed"]), address=None)
    assert alone.wait(timeout=300) == 0, log(places["undisturbed"])

    place = places["disturbed"]

    def parts() -> int:
        return len(list((place / "c/masks/saliency").glob("part-*.parquet")))

    job = start(place, *command(place), address=fleet.cluster.address)
    try:
        wait_for(job, place, lambda: "waiting for a machine with 1 CPU;" in log(place))
        first = fleet.join(cpus=1)
        print(f"a machine is used after {wait_for(job, place, lambda: parts() > 0):.1f} s")
        fleet.join(cpus=1)
        wait_for(job, place, lambda: parts() > 4)
        fleet.die(first)
        before = parts()
        wait_for(job, place, lambda: parts() > before + 4)
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=60) == TERMINATED, log(place)
    finally:
        job.kill()
    kept = parts()
    assert before + 4 < kept < PICTURES // PART_SIZE, "the job was stopped too late"
    killed = MlflowClient(store).search_runs(["1"], "attributes.status = 'KILLED'")
    assert [run.data.tags["fss.job"] for run in killed] == ["pseudomask"]
    again = start(place, *command(place), address=fleet.cluster.address)
    assert again.wait(timeout=300) == 0, log(place)
    assert masks(place, "saliency") == masks(places["undisturbed"], "saliency")


def test_a_stage_for_gpus_waits_for_the_first_machine_that_has_one(fleet: Fleet, tmp_path: Path) -> None:
    job = start(tmp_path, "-c", GPU_STAGE, address=fleet.cluster.address)
    try:
        wait_for(job, tmp_path, lambda: "waiting for a machine with 1 CPU and 1 GPU" in log(tmp_path))
        fleet.join(cpus=1, gpus=1)
        assert job.wait(timeout=120) == 0, log(tmp_path)
    finally:
        job.kill()


def test_training_evaluation_and_sweep_run_beside_a_head_without_cpus(
    fleet: Fleet, paint_masked: Paint, tmp_path: Path
) -> None:
    fleet.join(cpus=3)
    collection = paint_masked(tmp_path / "c", count=32)
    shared = ["--collection", collection, "--output", str(tmp_path / "out")]
    shared += ["--tracking.uri", f"sqlite:///{tmp_path}/mlflow.db", "--device", "cpu"]
    training = [*SMALL, *STREAM, "--steps", "4", "--checkpoint-every", "2", "--no-log-model"]
    jobs = {
        "train": ["--name", "t", *training],
        "evaluate": [
            "--model",
            str(tmp_path / "out/t/model"),
            "--episodes",
            "8",
            "--shots",
            "1",
            "--skip-small-classes",
        ],
        "tune": [*training, "--dimensions", "learning-rate=1e-4..1e-3 log", "--trials", "2"],
    }
    for name, words in jobs.items():
        job = start(tmp_path, "-m", f"pipelines.{name}", *shared, *words, address=fleet.cluster.address)
        assert job.wait(timeout=400) == 0, f"{name}: {log(tmp_path)[-3000:]}"
