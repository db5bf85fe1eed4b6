"""Training workers without Ray: fresh processes that form one gloo group."""

import os
import tempfile
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn


def train_on_workers(world: int, train: Callable[..., None], *arguments: object) -> None:
    """Call ``train(rank, world, *arguments)`` in each of ``world`` processes; what one raises is raised here.

    Fresh processes: forked ones may wait for ever for a lock that a thread of the suite held.
    """
    with tempfile.TemporaryDirectory() as meeting:
        spawn(_worker, (world, train, arguments, meeting), nprocs=world)  # type: ignore[no-untyped-call]


def _worker(rank: int, world: int, train: Callable[..., None], arguments: tuple[object, ...], meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}/rendezvous", rank=rank, world_size=world)
    train(rank, world, *arguments)
    dist.barrier()
    # Gloo's threads outlive the group, and one that still lets go of a tensor when Python tears itself down
    # aborts the process (pytorch/pytorch#190489): the worker ends here, its work done.
    os._exit(0)
