"""Build and run a Ray Train job: workers, failures, checkpoints, and resume by name."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.train import (
    CheckpointConfig,
    FailureConfig,
    Result,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
)
from ray.train.torch import TorchConfig, TorchTrainer

from fss.core import storage
from fss.core.temporary import delete_leftovers, owned_path
from pipelines.runtime.config import ScaleConfig
from pipelines.runtime.ray_internals import disable_sigint_handler, torch_group
from pipelines.runtime.ray_session import count_cpus, count_gpus, is_local
from pipelines.runtime.stopping import stop_uri, stoppable

STARTS = 3  # least tries to start the workers of a training
WAIT_S = 3600.0  # a cluster may have to start machines: the tries take this time together
TRY_S = 60.0  # Ray Train's default for RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S
_GROUP = torch_group()


class LoopbackTorchConfig(TorchConfig):
    """Configuration of a process group whose workers are all on this machine."""

    @property
    def backend_cls(self) -> type[Any]:
        """Return the backend that sets up the group."""
        return _LoopbackBackend


class _LoopbackBackend(_GROUP.backend):  # type: ignore[name-defined,misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Set up the group through a file, because torch's TCP store accepts connections from any address."""
        self.rendezvous = owned_path("workers")
        on_gpu = worker_group.get_resources_per_worker().get("GPU", 0) > 0
        worker_group.execute(_GROUP.set_environment)
        group = [
            worker_group.execute_single_async(
                rank,
                _GROUP.set_up,
                backend="nccl" if on_gpu else "gloo",
                world_rank=rank,
                world_size=len(worker_group),
                init_method=f"file://{self.rendezvous}",  # torch does not decode %20
                timeout_s=backend_config.timeout_s,
            )
            for rank in range(len(worker_group))
        ]
        ray.get(group)

    def on_shutdown(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Leave the group, and delete its file."""
        super().on_shutdown(worker_group, backend_config)
        self.rendezvous.unlink(missing_ok=True)


def fit(
    worker: Callable[[dict[str, Any]], None],
    settings: Mapping[str, Any],
    *,
    name: str,
    storage_uri: str,
    scale: ScaleConfig,
    score: str,
    callbacks: Sequence[UserCallback] = (),
) -> Result:
    """Run ``worker(settings)`` on every rank; the same name and storage_uri resume the last checkpoint.

    Args:
        worker: the training function; it must call ``ray.train.report`` equally often on every rank.
        settings: plain values for the worker, which gets the file of :mod:`pipelines.runtime.stopping` as ``stop``.
        name: name of the training, unique in ``storage_uri``.
        storage_uri: absolute local folder or object-store URI that every node reaches.
        scale: number and resources of the workers; ``device`` is resolved.
        score: reported metric that selects the checkpoints to keep; higher is better.
        callbacks: called after every report.

    Raises:
        ValueError: a worker rejected the settings.
        KeyboardInterrupt: the training was interrupted, after a last checkpoint if there was time for it.
        RuntimeError: the workers failed more than ``scale.max_failures`` times; the message has their errors.
    """
    # Every report waits for a poll. With small models, the default of 2 s would dominate the run time.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    filesystem, path = storage.resolve(storage_uri)
    if missing := "" if is_local() else _missing_resources(scale):
        print(f"[{name}] waiting for {missing}; the training starts when they are there", file=sys.stderr, flush=True)
    trainer = TorchTrainer(
        worker,
        train_loop_config={**settings, "stop": stop_uri(storage_uri, name)},
        torch_config=LoopbackTorchConfig() if is_local() else TorchConfig(),
        scaling_config=ScalingConfig(
            num_workers=(scale.min_workers, scale.workers) if scale.min_workers else scale.workers,  # type: ignore[arg-type]
            use_gpu=scale.device == "cuda",
            resources_per_worker=_resources(scale),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            # By default, a controller on a full cluster tries to start forever.
            failure_config=FailureConfig(
                max_failures=scale.max_failures,
                controller_failure_limit=_starts(),  # type: ignore[call-arg]  # the old class is what mypy sees
            ),
            checkpoint_config=CheckpointConfig(
                num_to_keep=scale.keep_checkpoints, checkpoint_score_attribute=score, checkpoint_score_order="max"
            ),
            callbacks=list(callbacks),  # type: ignore[arg-type]  # Train V2's callbacks
        ),
    )
    disable_sigint_handler(trainer)
    try:
        with stoppable(storage_uri, name, seconds=scale.stop_seconds):
            return trainer.fit()
    except TrainingFailedError as error:
        causes = _causes(error)
        for cause in causes:
            if isinstance(cause, ValueError):  # an error in the settings, which only a worker can find
                raise cause from error
        reasons = dict.fromkeys(map(_in_one_line, causes))
        raise RuntimeError(f"the training {name!r} failed: {'; '.join(reasons)}") from error
    finally:
        delete_leftovers()  # of workers that were killed


def _causes(error: TrainingFailedError) -> list[BaseException]:
    """Return the errors of the workers, or that of their controller, without Ray's wrapping errors."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [getattr(error, "controller_failure", error)]
    return [getattr(failure, "_base_exc", failure) for failure in failures]


def _in_one_line(error: BaseException) -> str:
    """Return the type of an error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _starts() -> int:
    """Return how often the workers are started before the training fails."""
    if is_local():
        return STARTS
    return max(STARTS, round(WAIT_S / float(os.environ.get("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", TRY_S))))


def _missing_resources(scale: ScaleConfig) -> str:
    """Return what the cluster lacks for the workers at the moment, in words."""
    workers = scale.min_workers or scale.workers
    cluster = {"CPU": count_cpus(), "GPU": count_gpus()}
    missing = {name: workers * amount - cluster[name] for name, amount in _resources(scale).items()}
    return " and ".join(f"{amount:g} more {name}s" for name, amount in missing.items() if amount > 0)


def _resources(scale: ScaleConfig) -> dict[str, float]:
    return {"CPU": scale.cpus_per_worker} | ({"GPU": 1} if scale.device == "cuda" else {})
