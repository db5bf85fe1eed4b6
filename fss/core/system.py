"""The environment of a job: git commit, library versions and hardware."""

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIBRARIES = ("torchvision", "ray", "mlflow", "numpy", "pyarrow", "opencv-python-headless", "timm", "optuna")

_WHEELS = ((580, "cu130"), (525, "cu126"))
"""Oldest major versions of the driver, and the newest builds of torch that run on them."""


WAIT_POLICY = "OMP_WAIT_POLICY"
"""Environment variable that says what the threads of torch do while they wait for each other."""


def let_threads_sleep() -> None:
    """Let the threads of torch sleep while they wait for each other, in this process and those that it starts.

    It has no effect once torch is imported. By default they keep their cores busy for milliseconds. Where another
    program needs one of the cores, a training with two threads then takes six times as long. A value of the user's own
    stays.
    """
    os.environ.setdefault(WAIT_POLICY, "passive")


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or less where a container (cgroup v2) limits it."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return installed
    return min(installed, int(limit)) if limit.isdigit() else installed


def gpu_count() -> int:
    """Return the number of NVIDIA GPUs that this process may use, without importing torch; 0 where none are visible."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = sum(path.name.removeprefix("nvidia").isdigit() for path in Path("/dev").glob("nvidia*"))
    return present if visible is None else min(present, len([name for name in visible.split(",") if name.strip()]))


def gpu_problem() -> str | None:
    """Return why torch cannot use the NVIDIA GPUs of this machine, and what to install; None if it can."""
    import torch

    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return (
            f"torch {torch.__version__} is built without CUDA; install the build of PyPI: pip install torch torchvision"
        )
    built = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}"
    driver = nvidia_driver()
    if driver is None:
        return f"{built}, but there is no NVIDIA driver, or this process cannot see it; install the driver"
    wheel = next((wheel for oldest, wheel in _WHEELS if int(driver.split(".")[0]) >= oldest), None)
    install = f"pip install torch torchvision --index-url https://download.pytorch.org/whl/{wheel}"
    advice = f"update the driver, or {install}" if wheel else "update the driver"
    return f"{built}, and the NVIDIA driver is {driver}, which may be too old for it; {advice}"


def require_device(device: str) -> None:
    """Check that torch has a device on this machine.

    Raises:
        ValueError: there is no such device; the message says why, and what to do.
    """
    import torch

    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError:
        kind, index = "", 0
    if kind == "cpu":
        return
    if kind == "cuda":
        problem = gpu_problem()
        if problem is None and index < torch.cuda.device_count():
            return
        problem = problem or f"there are {torch.cuda.device_count()}, which count from 0"
        raise ValueError(f"the device is {device}, but torch cannot use that GPU: {problem}; or take the device cpu")
    if kind == "mps" and torch.backends.mps.is_available():
        return
    raise ValueError(f"there is no device {device} on this machine; the devices are cpu, cuda (NVIDIA) and mps (Apple)")


def nvidia_driver(file: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """Return the version of the NVIDIA driver, such as 535.183.01; None without a driver."""
    match = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", file.read_text()) if file.is_file() else None
    return match[1] if match else None


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numeric libraries use one thread in a block, as in the processes of a job.

    Otherwise the threads of linear algebra wait for each other in busy loops, and a measured time says nothing about a
    machine whose cores all have work.
    """
    import cv2
    from threadpoolctl import threadpool_limits

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        cv2.setNumThreads(threads)


def environment_tags() -> dict[str, str]:
    """Return git commit, Python and library versions and hardware, as tags of a run."""
    import torch

    cuda = torch.cuda.is_available()
    tags = {
        "python": platform.python_version(),
        **{name: version for name in LIBRARIES if (version := _version(name))},
        "torch": torch.__version__,  # includes the CUDA version of the build
        "platform": platform.platform(),
        "cpu": _processor(),
        "cpus": str(os.cpu_count()),
        "memory_gb": f"{memory_bytes() / 1e9:.1f}",
        "gpu": torch.cuda.get_device_name(0) if cuda else "none",
        "gpus": str(torch.cuda.device_count()),
        "cuda": str(torch.version.cuda) if cuda else "none",
    }
    if commit := git_commit():
        tags["mlflow.source.git.commit"] = commit
    return {(name if name.startswith("mlflow.") else f"fss.{name}"): value for name, value in tags.items()}


def installed_packages() -> str:
    """Return every installed distribution with its version, one per line, in the format of ``pip freeze``."""
    requirements = {f"{each.metadata['Name']}=={each.version}" for each in importlib.metadata.distributions()}
    return "\n".join(sorted(requirements, key=str.lower)) + "\n"


def git_commit() -> str | None:
    """Return the commit of the source tree this package runs from, with ``-dirty`` if files differ from it.

    Without a repository, as in a container or on the nodes of a submitted job, it is taken from ``FSS_GIT_COMMIT``.
    """
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("FSS_GIT_COMMIT")
    return process.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the name of the processor; on Linux it is read from /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
