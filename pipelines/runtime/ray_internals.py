"""Training workers of one machine meet without a port that others can reach."""

import tempfile
import uuid
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import tune
from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train.backend import Backend
from ray.train.torch.config import (
    TorchConfig,
    _set_torch_distributed_env_vars,
    _setup_torch_process_group,
    _TorchBackend,
)
from ray.util.placement_group import PlacementGroup, remove_placement_group

LOOPBACK = "127.0.0.1"


class LoopbackTorchConfig(TorchConfig):
    """A process group whose workers are all on this machine."""

    @property
    def backend_cls(self) -> type[Backend]:
        """Return what sets the group up."""
        return _LoopbackBackend


class _LoopbackBackend(_TorchBackend):
    def on_start(self, worker_group: BaseWorkerGroup, backend_config: TorchConfig) -> None:
        """Let the workers meet in a file: torch's own store, a server, takes connections from everywhere."""
        meeting = Path(tempfile.gettempdir()) / f"fss-workers-{uuid.uuid4().hex}"
        on_gpu = worker_group.get_resources_per_worker().get("GPU", 0) > 0
        worker_group.execute(_set_torch_distributed_env_vars)
        group = [
            worker_group.execute_single_async(
                rank,
                _setup_torch_process_group,
                backend="nccl" if on_gpu else "gloo",
                world_rank=rank,
                world_size=len(worker_group),
                init_method=meeting.as_uri(),
                timeout_s=backend_config.timeout_s,
            )
            for rank in range(len(worker_group))
        ]
        ray.get(group)


def loopback_environment() -> dict[str, str]:
    """Return the environment variables that keep gloo's and NCCL's own connections on this machine."""
    name = next((name for name, found in psutil.net_if_addrs().items() if LOOPBACK in {a.address for a in found}), None)
    return {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name} if name else {}


class FreedRoom(tune.Callback):
    """Frees what the trainings of stopped trials reserved.

    Tune ends a stopped trial's process, and with it the controller of its training, but Ray keeps what the controller
    reserved for the workers until the whole job ends. Ray Train's own remedy asks the dashboard which controllers live;
    a local Ray has none, and each stopped trial took a CPU with it.
    """

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look for reservations of dead controllers; the look takes a millisecond."""
        free_room()


def free_room() -> int:
    """Remove the reservations of this job's actors that are dead; returns how many there were."""
    job, removed = ray.get_runtime_context().get_job_id(), 0
    for entry in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(entry)
        # Ray calls the creator dead, too, where there never was an actor: what the driver reserved for the trials.
        dead = group.creator_actor_dead and not ray.ActorID(group.creator_actor_id).is_nil()
        if dead and group.state != PlacementGroupTableData.REMOVED and group.creator_job_id.hex() == job:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            removed += 1
    return removed
