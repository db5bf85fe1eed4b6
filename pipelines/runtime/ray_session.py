"""One Ray session per job: join the cluster we were started on, or start a small local one."""

import json
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray

import fss
import pipelines
from fss.core.system import available_cores
from pipelines.runtime.ray_internals import on_loopback

LOOPBACK = "127.0.0.1"
# Ray's default object store takes a third of the memory. Ours only ever holds part names and rows of statistics.
OBJECT_STORE_BYTES = 128 * 2**20
# A task is one part on one core: numeric libraries that start a thread per core would fight over them.
SINGLE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
STARTS = 3  # of a local Ray: its node gives its own agent 15 s, fixed in 2.60, which can be too short on a busy machine


@contextmanager
def ray_session(*, num_cpus: int | None = None) -> Iterator[None]:
    """Run a block with Ray ready; a session that was there before is used and left alone.

    Inside a submitted job, or with ``RAY_ADDRESS`` set, the job joins that cluster. Otherwise a local Ray is started
    with ``num_cpus`` logical CPUs: at least 4, because two training workers, their controller and a data task must fit
    on a two-core laptop too (a Dataset that cannot get its CPU waits for ever).

    Raises:
        ValueError: ``RAY_ADDRESS`` names a cluster that doesn't answer.
        RuntimeError: a local Ray did not start.
    """
    if ray.is_initialized():
        _quiet_data()
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # 2.60 announces in every run that a later release will stop hiding GPUs from tasks without one: choose that now.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = os.environ.get("RAY_ADDRESS")
    if address:
        _join(address)
    else:
        with on_loopback():
            _start(num_cpus or max(4, available_cores()))
    _tighten_token()
    _quiet_data()
    try:
        yield
    finally:
        ray.shutdown()


def is_local() -> bool:
    """Say whether the session's Ray has this machine alone (its CPUs are then logical: more than the cores).

    A head without CPUs is not: its cluster starts machines for the tasks that ask for them.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return len(nodes) == 1 and "CPU" in nodes[0]["Resources"]


def count_gpus() -> int:
    """Return the GPUs of the cluster."""
    return int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]


def count_cpus() -> int:
    """Return the logical CPUs of the cluster; 1 where the first task has yet to make it start a machine."""
    return int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]


def worker_environment() -> dict[str, str]:
    """Return the environment variables of every worker: one thread each, and the object store's address."""
    passed = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "MLFLOW_S3_ENDPOINT_URL")
    return SINGLE_THREAD | {name: os.environ[name] for name in passed if name in os.environ}


def loopback_environment() -> dict[str, str]:
    """Return the environment variables that keep gloo's and NCCL's own connections on this machine."""
    interfaces = psutil.net_if_addrs().items()
    name = next((name for name, addresses in interfaces if LOOPBACK in {each.address for each in addresses}), None)
    return {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name} if name else {}


def _start(num_cpus: int) -> None:
    """Start a Ray here, and again where it was too slow: the second time its code is read from memory."""
    for left in reversed(range(STARTS)):
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": worker_environment() | loopback_environment()},
                # Found in 2.60: a driver waits for its first workers, for ever if one of them is killed meanwhile.
                _system_config={"prestart_worker_first_driver": False},
            )
            return
        except Exception as error:  # Ray raises nothing more precise
            if "timed out during startup" not in str(error):
                raise
            if not left:
                raise RuntimeError(
                    f"Ray did not start on this machine in {STARTS} tries. Is it very busy, or its disk full? Its logs "
                    "are in /tmp/ray/session_latest/logs; the same command goes on where this one stopped."
                ) from error
            logging.getLogger(__name__).warning("Ray did not start in time; once more")


def _join(address: str) -> None:
    runtime_env: dict[str, Any] = {"env_vars": worker_environment()}
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("runtime_env", {})
    if not {"working_dir", "py_modules"} & set(submitted):
        # A job that was submitted carries its code; a driver started by hand sends the two packages along.
        runtime_env["py_modules"] = [str(Path(package.__path__[0])) for package in (fss, pipelines)]
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime_env)
    except ConnectionError as error:
        raise ValueError(
            f"RAY_ADDRESS is {address!r} but no Ray cluster answers there ({error}). "
            "Start one with `ray start --head`, correct the address, or unset RAY_ADDRESS to run on this machine."
        ) from error


def _quiet_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the part driver prints its own lines, also readable in a log file
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _tighten_token() -> None:
    """Make Ray's token readable by its owner alone: 2.60 writes it for everyone to read."""
    token = Path.home() / ".ray" / "auth_token"
    if token.is_file() and stat.S_IMODE(token.stat().st_mode) & 0o077:
        try:
            token.chmod(0o600)
        except PermissionError:
            logging.getLogger(__name__).warning("%s can be read by other users; make it yours alone", token)
