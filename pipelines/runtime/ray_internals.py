"""All private names of Ray that the jobs use, behind one guard with the tested version."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import ray

TESTED = "2.60"
"""Minor version of Ray that these names were tested with."""
_ADVICE = f"fss was tested with Ray {TESTED}. Install it with: pip install 'ray=={TESTED}.*'"


class TorchGroup(NamedTuple):
    """Functions of Ray Train that set up the process group of its torch workers."""

    backend: type[Any]
    """Backend class, whose ``on_start`` creates the group."""
    set_environment: Callable[..., Any]
    """Sets environment variables; runs on every worker before the group is created."""
    set_up: Callable[..., Any]
    """Joins the group; runs on every worker."""


def torch_group() -> TorchGroup:
    """Return Ray Train's functions for torch's process group; imports torch."""
    module = "ray.train.torch.config"
    return TorchGroup(
        backend=_internal(module, "_TorchBackend"),
        set_environment=_internal(module, "_set_torch_distributed_env_vars"),
        set_up=_internal(module, "_setup_torch_process_group"),
    )


@contextmanager
def on_loopback() -> Iterator[None]:
    """Make a Ray that starts in this block listen on the loopback address only.

    This is the default on macOS; on Linux, Ray listens on all addresses. In 2.60, a node without cluster support has
    the address 127.0.0.1, and its servers bind to that address.
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


@contextmanager
def keep_sigterm_handler() -> Iterator[Callable[[], None]]:
    """Leave SIGTERM to this program's own handler, if it has one, while Ray starts in this block and afterwards.

    The handlers that Ray 2.60 installs in Python end the program with exit code 15 or 1, as soon as it starts. That of
    its compiled code, which comes at the end of the start, aborts it. Yields a function that installs the own one.
    """
    name = "set_sigterm_handler"
    before = _internal("ray._private.utils", name)
    handler = signal.getsignal(signal.SIGTERM)
    if handler in (signal.SIG_DFL, None) or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def install() -> None:
        if signal.getsignal(signal.SIGTERM) is handler:  # else it has run
            signal.signal(signal.SIGTERM, handler)

    utils: Any = import_module("ray._private.utils")
    setattr(utils, name, lambda handler: None)
    try:
        yield install
    finally:
        setattr(utils, name, before)
        install()


def shut_down() -> None:
    """Stop Ray, with this program's own handler of SIGTERM also while the processes of a local Ray end.

    In 2.60, the compiled code removes the handler first, and stopping the processes then takes seconds.
    """
    node: Any = _internal("ray._private.worker", "_global_node")
    with keep_sigterm_handler() as install:
        if node is not None:
            stop = node.kill_all_processes

            def stop_processes(*args: Any, **options: Any) -> None:
                install()
                stop(*args, **options)

            node.kill_all_processes = stop_processes
        ray.shutdown()


def remove_dead_reservations() -> int:
    """Remove the placement groups of this job's dead actors, and return their number."""
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    table = _internal("ray.core.generated.gcs_pb2", "PlacementGroupTableData")
    state = _internal("ray._private.state", "state")
    job, removed = ray.get_runtime_context().get_job_id(), 0
    for entry in state._connect_and_get_accessor().get_placement_group_table():
        group = table.FromString(entry)
        # The driver's own groups, which reserve the trials, also have a dead creator, but a nil id.
        dead = group.creator_actor_dead and not ray.ActorID(group.creator_actor_id).is_nil()
        if dead and group.state != table.REMOVED and group.creator_job_id.hex() == job:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            removed += 1
    return removed


def disable_sigint_handler(trainer: Any) -> None:
    """Let the driver handle Ctrl-C: in 2.60, a trainer's own handler ends the program with exit code 0."""
    _internal("ray.train.v2.api.data_parallel_trainer", "DataParallelTrainer")
    name = "_register_sigint_handler"
    if not hasattr(trainer, name):
        raise RuntimeError(f"Ray {ray.__version__} has no {name}; {_ADVICE}")
    setattr(trainer, name, lambda controller: None)


def _internal(module: str, name: str) -> Any:
    """Import a private name of Ray.

    Raises:
        RuntimeError: this version of Ray does not have the name.
    """
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RuntimeError(f"Ray {ray.__version__} has no {module}.{name}; {_ADVICE}") from error
