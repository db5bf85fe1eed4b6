"""Check this machine, and estimate the disk space and time of a job.

    fss doctor
    fss doctor --s3 s3://bucket/photos --tracking http://mlflow:5000
    fss doctor --ray always
    fss doctor --photographs ~/photos --backbone mobilenet_v2 --image-size 256

With --photographs, a dozen of them are decoded and segmented and one training step is run, to estimate the time for
all.
"""

import importlib.metadata
import os
import platform
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fss.core.config import settings
from fss.core.exit_codes import PARTIAL, SUCCESS
from fss.core.extras import DISTRIBUTION, EXTRAS, install_command, missing
from fss.core.redaction import redact_passwords
from fss.core.system import available_cores, gpu_count, gpu_problem
from fss.training.few_shot.defaults import TrainingPlan, machine_plan

_TIMEOUT_S = 5
SLOW_S = 24 * 3600.0
"""A training that takes longer fails the doctor's check."""


@settings
class Config:
    """The arguments of ``fss doctor``."""

    photographs: str | None = None
    """Photographs that a job would learn from: a folder or s3:// URI."""
    training: Annotated[TrainingPlan, tyro.conf.arg(name="")] = field(default_factory=machine_plan)
    """Training that would follow; the defaults are those of the main job on this machine."""
    workdir: Path = Path()
    """Folder that the job would write to."""
    s3: str | None = None
    """Object store to check, an s3:// URI. None: no check."""
    tracking: str | None = None
    """MLflow's store. None: MLFLOW_TRACKING_URI, or the store in this directory."""
    ray: Literal["auto", "always", "never"] = "auto"
    """Ask Ray for its GPUs and compare them with torch's; auto does so where there is a GPU or RAY_ADDRESS is set."""


@dataclass(frozen=True)
class Check:
    """One line of the doctor's table."""

    name: str
    result: str
    ok: bool = True


def run(config: Config) -> int:
    """Print all checks and return the exit code, which is 3 if one of them fails.

    Raises:
        ValueError: there is no usable photograph.
    """
    from rich.table import Table

    from fss.core.console import cell, output_console

    checks = [*packages(), *machine(config.workdir), ray_check(config.ray), *store(config.tracking)]
    if config.s3 is not None:
        checks.append(object_store(config.s3))
    if config.photographs is not None:
        checks += needs(config)
    table = Table(show_header=False)
    for check in checks:
        table.add_row("[green]ok[/]" if check.ok else "[red]not ok[/]", check.name, cell(check.result))
    output_console().print(table)
    return SUCCESS if all(check.ok for check in checks) else PARTIAL


def packages() -> Iterator[Check]:
    """Check the versions of the required packages, and tell which extras are installed."""
    from packaging.requirements import Requirement

    yield Check("python", platform.python_version())
    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Check("fss", "is not installed: pip install -c constraints.txt -e .", False)
        return
    installed = []
    for requirement in [requirement for requirement in requirements if requirement.marker is None]:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Check(requirement.name, f"is missing: pip install '{requirement}'", False)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            installed.append(f"{requirement.name} {version}")
        else:
            yield Check(
                requirement.name, f"is {version}, needed is {requirement.specifier}: pip install '{requirement}'", False
            )
    yield Check("packages", ", ".join(installed))
    absent = [extra for extra in EXTRAS if missing(extra)]
    complete = ", ".join(extra for extra in EXTRAS if extra not in absent) or "none"
    others = f"; not installed: {', '.join(absent)}; all of them: {install_command('all')}" if absent else ""
    yield Check("extras", f"{complete}{others}")


def machine(workdir: Path) -> Iterator[Check]:
    """Check cores, memory, GPU and the free disk space in ``workdir``."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load, cores = os.getloadavg()[0], available_cores()
    busy = f"; busy (load {load:.1f}): times measured now come out too long" if load > cores / 2 else ""
    yield Check("cores", f"{cores}, {memory:.0f} GiB of memory{busy}")
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        yield Check("GPU", f"{torch.cuda.device_count()} x {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    elif count := gpu_count():
        yield Check("GPU", f"the driver shows {count}, but {gpu_problem()}", False)
    else:
        yield Check("GPU", "none that PyTorch can use; everything runs on the CPU, training slowly")
    yield Check("free disk", f"{_free(workdir) / 1e9:,.1f} GB in {workdir.absolute()}", os.access(workdir, os.W_OK))


def ray_check(ask: Literal["auto", "always", "never"]) -> Check:
    """Check whether Ray counts the GPUs that torch can use, on this machine or on a cluster."""
    from fss.cli._ray import compare_with_ray

    address = os.environ.get("RAY_ADDRESS")
    jobs = f"jobs join the cluster {address}" if address else "jobs start one on this machine"
    if missing("cluster"):
        return Check("Ray", f"is not installed, which jobs need: {install_command('cluster')}", ask != "always")
    if ask == "never" or (ask == "auto" and not address and not gpu_count()):
        return Check("Ray", jobs)
    counts, agreed = compare_with_ray()
    return Check("Ray", f"{jobs}; {counts}", agreed)


def store(tracking: str | None) -> Iterator[Check]:
    """Check MLflow's store."""
    from fss.tracking.run import sqlite_path, tracking_uri
    from fss.tracking.store import ask, tracking_client

    uri = tracking_uri(tracking)
    public_uri = redact_passwords(uri)
    if (path := sqlite_path(uri)) and not path.is_dir():
        folder = path.parent
        writable = folder.is_dir() and os.access(folder, os.W_OK)
        yield Check("MLflow", public_uri if writable else f"{public_uri}: {folder} cannot be written", writable)
    elif uri.startswith("http"):
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_TIMEOUT_S):
                yield Check("MLflow", f"{public_uri} answers")
        except OSError as error:
            yield Check("MLflow", f"{public_uri} does not answer: {error}", False)
    elif missing("track"):
        yield Check("MLflow", f"is not installed, which {public_uri} needs: {install_command('track')}", False)
    else:
        try:
            ask(uri, lambda: tracking_client(uri).search_experiments(max_results=1))
            yield Check("MLflow", f"{public_uri} answers")
        except ValueError as error:
            yield Check("MLflow", str(error), False)


def object_store(uri: str) -> Check:
    """Check the access to an object store."""
    from fss.core import storage

    try:
        storage.check_access(uri)
        count = len(storage.list_names(*storage.resolve(uri)))
    except (ValueError, OSError) as error:
        return Check("S3", str(error), False)
    return Check("S3", f"{uri} answers, {count} names below it")


def needs(config: Config) -> Iterator[Check]:
    """Estimate the needs of a job, and check the disk space."""
    import torch

    from fss.cli._estimate import estimate

    device = "cuda" if torch.cuda.is_available() else "cpu"
    job = estimate(str(config.photographs), config.training, cores=available_cores(), device=device)
    free = _free(config.workdir)
    passed = {"disk needed": job.disk_bytes < free, "training": job.training_seconds < SLOW_S}
    for name, line in job.lines.items():
        advice = ""
        if name == "training" and not passed[name]:
            advice = "; that is long: use a GPU, a lighter --backbone, a smaller --image-size or fewer --steps"
        yield Check(name, line + advice, passed.get(name, True))


def _free(workdir: Path) -> int:
    folder = workdir.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
