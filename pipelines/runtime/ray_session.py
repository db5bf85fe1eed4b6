"""One Ray session per job: join the cluster of the job, or start a small local Ray."""

import json
import logging
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray

import fss
import pipelines
from fss.core.memory import ARENAS
from fss.core.system import WAIT_POLICY, available_cores
from pipelines.runtime.ray_internals import keep_sigterm_handler, on_loopback, shut_down

LOOPBACK = "127.0.0.1"
# By default, the object store takes a third of the memory, but jobs only store part names and rows of statistics.
OBJECT_STORE_BYTES = 128 * 2**20
# Tasks run one per core, so numeric libraries must not start a thread per core in each of them.
SINGLE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
LOCAL = "FSS_LOCAL_RAY"  # in the environment of workers of a Ray that a job has started itself
# Nobody takes this machine away, and the watcher of every training is a process that has to start.
NO_WATCHER = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
JOIN_S = 10.0
"""Seconds in which the head of a cluster must take a connection: Ray would wait for it without end."""
STARTS = 3  # tries to start a local Ray: 2.60 gives its agent 15 s, which can be too short on a busy machine


@contextmanager
def ray_session(*, num_cpus: int | None = None) -> Iterator[None]:
    """Run a block inside a Ray session; a session that exists already is used and stays open.

    A submitted job, or one with ``RAY_ADDRESS`` set, joins that cluster. Otherwise a local Ray starts with ``num_cpus``
    logical CPUs. By default it has at least 4, because two training workers, their controller and a data task must fit
    on a two-core laptop; a Dataset without a CPU waits forever.

    Raises:
        ValueError: no cluster answers at ``RAY_ADDRESS``.
        RuntimeError: a local Ray did not start.
    """
    if ray.is_initialized():
        _quiet_data()
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # 2.60 warns in every run that a later release changes this default; set the later default.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = os.environ.get("RAY_ADDRESS")
    with keep_sigterm_handler():
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
        shut_down()


def is_local() -> bool:
    """Return whether this program started Ray, on this machine only and with more logical CPUs than cores.

    Any other Ray is a cluster, which machines may join and leave. Workers of the program give the same answer.
    """
    environment = ray.get_runtime_context().runtime_env.get("env_vars", {})
    return LOCAL in environment


def count_gpus() -> int:
    """Return the number of GPUs of the cluster."""
    return int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]


def count_cpus() -> int:
    """Return the number of logical CPUs of the cluster; 1 for a cluster that has not started a machine yet."""
    return int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]


def worker_environment() -> dict[str, str]:
    """Return the environment variables of every worker: threads that sleep, memory, and the object store's address.

    A training runs in a thread of its worker, which keeps its memory for the next tensors only in the first arena. How
    threads wait is set where ``pipelines`` is imported.
    """
    names = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "MLFLOW_S3_ENDPOINT_URL", ARENAS, WAIT_POLICY)
    return SINGLE_THREAD | {ARENAS: "1"} | {name: os.environ[name] for name in names if name in os.environ}


def loopback_environment() -> dict[str, str]:
    """Return the environment variables that restrict gloo and NCCL to the loopback interface."""
    interfaces = psutil.net_if_addrs().items()
    name = next((name for name, addresses in interfaces if LOOPBACK in {each.address for each in addresses}), None)
    return {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name} if name else {}


def _start(num_cpus: int) -> None:
    """Start a local Ray, and try again if it times out: its code is then in the file cache."""
    for remaining in reversed(range(STARTS)):
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": worker_environment() | loopback_environment() | NO_WATCHER | {LOCAL: "1"}},
                # In 2.60, a driver waits for its first workers, and forever if one of them is killed.
                _system_config={"prestart_worker_first_driver": False},
            )
            return
        except Exception as error:  # Ray raises nothing more precise
            if "timed out during startup" not in str(error):
                raise
            if not remaining:
                raise RuntimeError(
                    f"Ray did not start on this machine in {STARTS} tries. Check whether the machine is very busy or "
                    "its disk is full; the logs are in /tmp/ray/session_latest/logs. The same command resumes the job"
                ) from error
            logging.getLogger(__name__).warning("Ray did not start in time; trying again")


def _join(address: str) -> None:
    runtime_env: dict[str, Any] = {"env_vars": worker_environment()}
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("runtime_env", {})
    if not {"working_dir", "py_modules"} & set(submitted):
        # A submitted job has its code in the working directory; a driver started by hand has to send the packages.
        runtime_env["py_modules"] = [str(Path(package.__path__[0])) for package in (fss, pipelines)]
    try:
        if head := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address):
            socket.create_connection((head[1], int(head[2])), timeout=JOIN_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime_env)
    except (OSError, ValueError, OverflowError) as error:
        raise ValueError(
            f"RAY_ADDRESS is {address!r}, but no Ray cluster answers there ({' '.join(str(error).split())}). "
            "Start one with `ray start --head`, correct the address, or unset RAY_ADDRESS to run on this machine."
        ) from error


def _quiet_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the part driver prints its own lines, which suit log files
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _tighten_token() -> None:
    """Make Ray's token readable by its owner only, because 2.60 writes it readable by everyone."""
    token = Path(os.path.expanduser("~/.ray/auth_token"))  # noqa: PTH111 - Path has an error where there is no home
    if token.is_file() and stat.S_IMODE(token.stat().st_mode) & 0o077:
        try:
            token.chmod(0o600)
        except PermissionError:
            logging.getLogger(__name__).warning("%s is readable by other users; change its mode to 600", token)
