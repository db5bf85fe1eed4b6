"""Training workers of one machine meet without a port that others can reach."""

import tempfile
import uuid
from pathlib import Path

import psutil
import ray
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train.backend import Backend
from ray.train.torch.config import (
    TorchConfig,
    _set_torch_distributed_env_vars,
    _setup_torch_process_group,
    _TorchBackend,
)

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
