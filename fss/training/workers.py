"""The workers of a training, one process each: their number, sums over them, and equal buffers."""

from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

Number = TypeVar("Number", np.int64, np.float64)


def world_size() -> int:
    """Return the number of workers of this training."""
    return dist.get_world_size() if _in_group() else 1


def worker_rank() -> int:
    """Return the number of this worker, from 0."""
    return dist.get_rank() if _in_group() else 0


def sum_over_workers(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all workers."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def sum_arrays_over_workers(values: NDArray[Number], device: str | torch.device) -> NDArray[Number]:
    """Return the sum of an array over all workers.

    Entries that only one worker sets are exact, since the others add zeros.

    Args:
        values: array of the same shape on every worker.
        device: device of the networks, on which their process group exchanges tensors.
    """
    if world_size() == 1:
        return values
    return np.asarray(sum_over_workers(torch.from_numpy(values).to(device)).cpu().numpy(), values.dtype)


@torch.no_grad()
def share_buffers(model: nn.Module) -> None:
    """Give all workers the first worker's buffers, such as the running means of BatchNorm.

    Every worker updates them with its own pictures. DistributedDataParallel does the same before a step.
    """
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def _in_group() -> bool:
    return dist.is_available() and dist.is_initialized()
