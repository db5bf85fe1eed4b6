"""The surroundings of a job that is disturbed: a tracking server and a cluster that can be lost."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


@dataclass(kw_only=True)
class Surroundings:
    """What a job needs besides its own processes."""

    nodes: Nodes | None = None
    """Cluster of the jobs that lose a node."""
    server: MlflowServer | None = None
    """Tracking server of the jobs that lose it."""
    database: Path | None = None
    """SQLite store of the other jobs."""
