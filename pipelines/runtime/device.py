"""The device of a job's networks."""

import os
import sys
from typing import Literal

from pipelines.runtime.config import Device

ResolvedDevice = Literal["cpu", "cuda", "mps"]


def resolve_device(device: Device, *, workers: int = 1) -> ResolvedDevice:
    """Resolve ``auto`` to a device of this machine or cluster, or check that the given device exists.

    On a cluster, Ray counts the GPUs. A cluster without a GPU may still start machines that have one.

    Args:
        device: device in the settings.
        workers: processes that need a GPU each.

    Raises:
        ValueError: there is no such device, or there are fewer GPUs than workers.
    """
    if device == "cpu":
        return "cpu"
    gpus, elastic = _cluster_gpus() if os.environ.get("RAY_ADDRESS") or _ray_is_ready() else (_local_gpus(), False)
    if device == "mps" or (device == "auto" and not gpus and not elastic):
        if _mps_available() and workers == 1:
            return "mps"
        if device == "mps":
            raise ValueError("device is mps, but there is no MPS here or there are several workers; give --device cpu")
        return "cpu"
    if device == "auto" and not gpus:
        print("the cluster has no GPU, so networks run on CPUs; --device cuda waits for one", file=sys.stderr)
        return "cpu"
    if gpus < workers and not elastic:
        fewer = f"--workers {gpus}, or " if gpus else ""
        raise ValueError(
            f"device is {device}, which takes one GPU per worker ({workers}), but there are {gpus} GPUs; give {fewer}"
            "--device cpu"
        )
    return "cuda"


def _cluster_gpus() -> tuple[int, bool]:
    """Return the number of Ray's GPUs, and whether its cluster may start more machines."""
    from pipelines.runtime.ray_session import count_gpus, is_local, ray_session

    with ray_session():
        return count_gpus(), not is_local()


def _ray_is_ready() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _local_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _mps_available() -> bool:
    import torch

    return torch.backends.mps.is_available()
