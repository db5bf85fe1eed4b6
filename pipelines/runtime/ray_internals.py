"""Every private name of Ray that the jobs use, behind one guard that names the versions they were tested with."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import ray

TESTED = "2.60"
"""Ray's minor version that these names were found in and tested with."""


class TorchGroup(NamedTuple):
    """What sets up the process group of Ray Train's torch workers."""

    backend: type[Any]
    """Ray's backend, whose ``on_start`` makes the group."""
    set_environment: Callable[..., Any]
    """Runs on every worker before the group is made."""
    set_up: Callable[..., Any]
    """Makes the group on a worker."""


def torch_group() -> TorchGroup:
    """Return how Ray Train sets up torch's process group; imports torch."""
    module = "ray.train.torch.config"
    return TorchGroup(
        backend=_internal(module, "_TorchBackend"),
        set_environment=_internal(module, "_set_torch_distributed_env_vars"),
        set_up=_internal(module, "_setup_torch_process_group"),
    )


@contextmanager
def on_loopback() -> Iterator[None]:
    """Let a Ray that is started in this block listen on the loopback address, as it does on macOS; Linux takes all.

    Found in 2.60's source: without clusters a node's address is 127.0.0.1, and its servers then bind to nothing else.
    """
    constants = _internal("ray._private", "ray_constants")
    variable = constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before, variable_before = constants.ENABLE_RAY_CLUSTER, os.environ.get(variable)
    constants.ENABLE_RAY_CLUSTER, os.environ[variable] = False, "0"
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        if variable_before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = variable_before


def remove_dead_reservations() -> int:
    """Remove the placement groups of this job's actors that are dead; returns how many there were."""
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    table = _internal("ray.core.generated.gcs_pb2", "PlacementGroupTableData")
    state = _internal("ray._private.state", "state")
    job, removed = ray.get_runtime_context().get_job_id(), 0
    for entry in state._connect_and_get_accessor().get_placement_group_table():
        group = table.FromString(entry)
        # Ray calls the creator dead, too, where there never was an actor: what the driver reserved for the trials.
        dead = group.creator_actor_dead and not ray.ActorID(group.creator_actor_id).is_nil()
        if dead and group.state != table.REMOVED and group.creator_job_id.hex() == job:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            removed += 1
    return removed


def _internal(module: str, name: str) -> Any:
    """Return a private name of Ray.

    Raises:
        RuntimeError: this version of Ray has no such name.
    """
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RuntimeError(
            f"Ray {ray.__version__} has no {module}.{name}; fss was tested with Ray {TESTED}. "
            f"Install it with: pip install 'ray=={TESTED}.*'"
        ) from error
