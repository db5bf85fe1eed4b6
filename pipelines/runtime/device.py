"""The device of a job's networks."""

import os
import sys
from dataclasses import replace
from typing import Literal

from fss.models.config import Precision
from pipelines.runtime.config import Device, ScaleConfig

ResolvedDevice = Literal["cpu", "cuda", "mps"]
CHECK_S = 60.0
"""Seconds to wait for a free GPU on which to check whether torch can use it."""
_said: set[str] = set()  # devices that were printed, since the stages of a job resolve the device again


def resolve_device(device: Device, *, workers: int = 1, precision: Precision = "fp32") -> ResolvedDevice:
    """Resolve ``auto`` to a device of this machine or cluster, or check that the given device exists; print it.

    On a cluster, Ray counts the GPUs. A cluster without a GPU may still start machines that have one.

    Args:
        device: device in the settings.
        workers: processes that need a GPU each.
        precision: precision of the networks, which the device must have.

    Raises:
        ValueError: there is no such device, there are fewer GPUs than workers, torch cannot use the GPUs, or the device
            does not have the precision.
    """
    resolved, why = _resolve(device, workers)
    check_precision(precision, resolved)
    if resolved not in _said:
        _said.add(resolved)
        print(f"networks run on {resolved} ({why})", file=sys.stderr, flush=True)
    return resolved


def check_precision(precision: Precision, device: Device) -> None:
    """Check that a resolved device has a precision.

    Raises:
        ValueError: it does not.
    """
    # The machines of a cluster may have other CPUs than this one; each checks its own when it starts to work.
    if device != "cuda" and (precision == "tf32" or not os.environ.get("RAY_ADDRESS")):
        from fss.models.precision import require_precision

        require_precision(precision, device)


def resolve_scale(scale: ScaleConfig, precision: Precision) -> ScaleConfig:
    """Return the machines of a training with their device resolved, as :func:`resolve_device` does."""
    return replace(scale, device=resolve_device(scale.device, workers=scale.workers, precision=precision))


def _resolve(device: Device, workers: int) -> tuple[ResolvedDevice, str]:
    """Return the device, and how it was chosen."""
    if device == "cpu":
        return "cpu", "--device cpu"
    on_ray = bool(os.environ.get("RAY_ADDRESS")) or _ray_is_ready()
    gpus, elastic = _cluster_gpus() if on_ray else (_local_gpus(), False)
    if device == "mps" or (device == "auto" and not gpus and not elastic):
        if _mps_available() and workers == 1:
            return "mps", "Apple's GPU"
        if device == "mps":
            raise ValueError("device is mps, but there is no MPS here or there are several workers; give --device cpu")
        return "cpu", "this machine has no GPU"
    if device == "auto" and not gpus:
        return "cpu", "the cluster has no GPU; --device cuda waits for one"
    if gpus < workers and not elastic:
        fewer = f"--workers {gpus}, or " if gpus else ""
        raise ValueError(
            f"device is {device}, which takes one GPU per worker ({workers}), but there are {gpus} GPUs; give {fewer}"
            "--device cpu"
        )
    if gpus and (problem := _gpu_problem(on_ray=on_ray)):
        reporter = "Ray reports" if on_ray else "the driver shows"
        raise ValueError(f"{reporter} {gpus} GPUs that torch cannot use: {problem}; or give --device cpu")
    return "cuda", f"{gpus} GPUs"


def _cluster_gpus() -> tuple[int, bool]:
    """Return the number of Ray's GPUs, and whether its cluster may start more machines."""
    from pipelines.runtime.ray_session import count_gpus, is_local, ray_session

    with ray_session():
        return count_gpus(), not is_local()


def _gpu_problem(*, on_ray: bool) -> str | None:
    """Return why torch cannot use a GPU, here or of the cluster; None if it can, or if all GPUs are busy."""
    from fss.core.system import gpu_problem

    if not on_ray:
        return gpu_problem()
    import ray

    from pipelines.runtime.ray_session import ray_session

    with ray_session():
        try:
            problem: str | None = ray.get(ray.remote(num_cpus=0, num_gpus=1)(gpu_problem).remote(), timeout=CHECK_S)
        except ray.exceptions.GetTimeoutError:
            return None
    return problem


def _ray_is_ready() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _local_gpus() -> int:
    """Return the number of GPUs of this machine: those of torch, or of the driver if torch can use none."""
    import torch

    from fss.core.system import gpu_count

    return torch.cuda.device_count() if torch.cuda.is_available() else gpu_count()


def _mps_available() -> bool:
    import torch

    return torch.backends.mps.is_available()
