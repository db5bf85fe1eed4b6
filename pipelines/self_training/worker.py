"""The worker of a stage: it trains, logs, validates and writes checkpoints."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import ray
import ray.train
from torch.nn.parallel import DistributedDataParallel

from fss.core import storage
from fss.evaluation.semantic import ConfusionMatrix
from fss.models.precision import set_precision
from fss.models.semantic.checkpoint import load_semantic, save_semantic
from fss.models.semantic.network import build_semantic, start_from
from fss.tracking.run import Run
from fss.training.loop import StepReport
from fss.training.semi_supervised.three_stage import SemanticLoop, auxiliary_head
from pipelines.runtime.metric_names import validation_name
from pipelines.runtime.metrics_logger import MetricsLogger
from pipelines.runtime.steps import every, run_steps
from pipelines.runtime.stopping import UNSCORED, stop_requested
from pipelines.runtime.train_worker import (
    FLUSH_S,
    reported_checkpoint,
    resume,
    share_cores,
    worker_device,
    write_state,
)
from pipelines.self_training.config import STEP, VAL_MIOU
from pipelines.self_training.data import SelfTrainData, SemanticValidator

MODEL, SNAPSHOT = "model", "snapshot"


def selftrain_worker(settings: dict[str, Any]) -> None:
    """Train one stage on this rank.

    Args:
        settings: ``data``, a list with the reference of the stage's :class:`SelfTrainData`, ``run``, the stage's MLflow
            run, ``stage``, ``output_dir``, the stage's folder, ``start``, the model that it starts from, or None, and
            ``stop``, the file of :mod:`pipelines.runtime.stopping`.
    """
    data: SelfTrainData = ray.get(settings["data"][0])
    config, stage = data.config, settings["stage"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    share_cores(config.scale.threads_per_worker)
    device = worker_device(config.scale.device)
    set_precision(config.precision, device)
    stream = data.stream(stage, rank=rank, world=world)
    head = auxiliary_head(config.training, stage)
    network = build_semantic(config.network, classes=len(data.table), auxiliary=head)
    if settings["start"] is not None:
        start_from(network, load_semantic(settings["start"])[0])
    network.to(device)
    model = DistributedDataParallel(network) if world > 1 else network
    loop = SemanticLoop(
        model,
        stream,
        config.training,
        stage=stage,
        statistics=data.statistics,
        device=device,
        precision=config.precision,
    )
    resume(loop)
    writer = SharedValidation(loop, data.validator())
    if rank == 0:
        writer = CheckpointWriter(loop, data, writer.validator, Run(**settings["run"]), settings["output_dir"])
    with stop_requested(settings["stop"], device) as stop:
        run_steps(loop.run(), writer, due=every(config.checkpoint_every, last=loop.steps), stop=stop)
    writer.close()


class SharedValidation:
    """Scores the weights that make the masks, together with the other workers."""

    def __init__(self, loop: SemanticLoop, validator: SemanticValidator | None):
        self.loop, self.validator = loop, validator

    def add(self, report: StepReport) -> None:
        """Do nothing: rank 0 logs the steps."""

    def save(self, *, validate: bool = True) -> None:
        """Score the current deployed weights, and wait for the checkpoint of rank 0."""
        if validate:
            with self.deployed():
                self.confusion()
        ray.train.report({})

    def close(self) -> None:
        """Do nothing: rank 0 logs."""

    def confusion(self) -> ConfusionMatrix | None:
        """Return the confusion matrix of the network on all validation pictures; None without them."""
        return None if self.validator is None else self.validator.validate(self.loop.network)

    def deployed(self) -> AbstractContextManager[None]:
        """Return a context in which the network has the weights that make the masks: the teacher's, if there is one."""
        return self.loop.ema.applied(self.loop.network) if self.loop.ema else nullcontext()


class CheckpointWriter(SharedValidation):
    """Logs metrics, validates the weights that make the masks, and writes checkpoints, on rank 0."""

    def __init__(
        self, loop: SemanticLoop, data: SelfTrainData, validator: SemanticValidator | None, run: Run, output_dir: str
    ):
        super().__init__(loop, validator)
        self.config, self.class_ids, self.output_dir = data.config, data.table.ids, output_dir
        batch = self.config.training.stage(loop.stage)
        self.logger = MetricsLogger(
            run=run, every=self.config.log_every, episodes=batch.labelled + batch.pool, images=1, last=loop.steps
        )
        self._snapshots = self.config.snapshots() if loop.stage == 1 else ()

    def add(self, report: StepReport) -> None:
        """Log a step, and save the weights of a snapshot step, from which the stability of masks is computed."""
        self.logger.add(report)
        if report.step % self.config.log_every == 0 or report.step == self.loop.steps:
            self.logger.log({f"train/loss.{name}": value for name, value in report.parts.items()}, report.step)
        if report.step in self._snapshots:
            uri = storage.join(self.output_dir, f"{SNAPSHOT}-{self._snapshots.index(report.step)}")
            save_semantic(self.loop.network, uri, class_ids=self.class_ids, extra={"step": report.step})

    def close(self) -> None:
        """Wait for MLflow to take what is logged."""
        self.logger.run.flush(FLUSH_S)

    def save(self, *, validate: bool = True) -> None:
        """Validate the current deployed weights, and report a checkpoint."""
        metrics = {STEP: float(self.loop.step)}
        if not validate:
            with reported_checkpoint({VAL_MIOU: UNSCORED, **metrics}) as folder:
                write_state(folder, self.loop, {"stage": self.loop.stage, **metrics})
            return
        with reported_checkpoint(metrics) as folder:
            with self.deployed():
                metrics |= self.validate()
                progress = {"stage": self.loop.stage, "run_id": self.logger.run.run_id, **metrics}
                extra = {"training": progress}
                save_semantic(self.loop.network, folder / MODEL, class_ids=self.class_ids, extra=extra)
            write_state(folder, self.loop, progress)

    def validate(self) -> dict[str, float]:
        """Log and return the validation metrics; an empty dict without validation pictures."""
        confusion = self.confusion()
        if confusion is None:
            return {}
        per_class = zip(self.class_ids, confusion.iou().tolist(), strict=True)
        ious = {validation_name(f"val_iou.{class_id}"): iou for class_id, iou in per_class if not np.isnan(iou)}
        weights = "averaged" if self.loop.ema else "raw"
        self.logger.log({f"{validation_name(VAL_MIOU)}.{weights}": confusion.miou(), **ious}, self.loop.step)
        return {VAL_MIOU: confusion.miou()}
