"""Build and run a Ray Train job: workers, faults, checkpoints, resume by name."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
from pipelines.runtime.config import ScaleConfig
from pipelines.runtime.ray_internals import LoopbackTorchConfig
from pipelines.runtime.ray_session import count_gpus, is_local


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
    """Run ``worker(settings)`` on every rank until it returns; the same name and URI resume its last checkpoint.

    Args:
        worker: the training function; calls ``ray.train.report`` equally often on every rank.
        settings: plain values handed to it.
        name: of the training; with ``storage_uri`` its identity.
        storage_uri: absolute local folder or object-store URI that every node reaches.
        scale: the workers.
        score: reported metric, higher is better, that chooses the checkpoints to keep.
        callbacks: told of every report.

    Raises:
        ValueError: more GPUs asked for than this machine has; a cluster may still start machines that have them.
        ray.train.TrainingFailedError: the workers failed more often than allowed.
    """
    # 2 s by default, and every report waits for one poll: with small models that is most of the time.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    filesystem, path = storage.resolve(storage_uri)
    trainer = TorchTrainer(
        worker,
        train_loop_config=dict(settings),
        torch_config=LoopbackTorchConfig() if is_local() else TorchConfig(),
        scaling_config=ScalingConfig(
            num_workers=(scale.min_workers, scale.workers) if scale.min_workers else scale.workers,
            use_gpu=_use_gpu(scale),
            resources_per_worker=_resources(scale),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            # On a full cluster a controller would otherwise try to start for ever.
            failure_config=FailureConfig(
                max_failures=scale.max_failures,
                controller_failure_limit=3,  # type: ignore[call-arg]  # the old class is what mypy sees
            ),
            checkpoint_config=CheckpointConfig(
                num_to_keep=scale.keep, checkpoint_score_attribute=score, checkpoint_score_order="max"
            ),
            callbacks=list(callbacks),
        ),
    )
    try:
        return trainer.fit()
    except TrainingFailedError as error:
        for failure in getattr(error, "worker_failures", {}).values():
            cause = getattr(failure, "_base_exc", failure)
            if isinstance(cause, ValueError):  # a mistake of the user, which only a worker could see
                raise cause from error
        raise


def _use_gpu(scale: ScaleConfig) -> bool:
    found = count_gpus()
    if scale.gpu and found < scale.workers and is_local():
        raise ValueError(f"{scale.workers} workers with a GPU each were asked for, this machine has {found} GPUs")
    return found >= scale.workers if scale.gpu is None else scale.gpu


def _resources(scale: ScaleConfig) -> dict[str, float]:
    return {"CPU": scale.cpus} | ({"GPU": 1} if _use_gpu(scale) else {})
