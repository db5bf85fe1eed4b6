"""What every worker of a stage runs: set up, train, and between steps log, measure and checkpoint."""

import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
from torch.nn.parallel import DistributedDataParallel

from fss.core import storage
from fss.core.config import from_dict
from fss.models.semantic.checkpoint import save_semantic
from fss.models.semantic.network import build_semantic
from fss.tracking.run import Run
from fss.training.semi_supervised.three_stage import AUXILIARY_HEADS, SemanticLoop, SemanticReport
from pipelines.runtime.metrics_logger import MetricsLogger
from pipelines.runtime.train_worker import STATE, reported_checkpoint, resume, share_cores
from pipelines.self_training.config import STEP, VAL_MIOU, SelfTrainConfig
from pipelines.self_training.data import SelfTrainData, Validator, open_data, open_stream

MODEL, SNAPSHOT = "model", "snapshot"
PROGRESS = "progress.json"


def selftrain_worker(settings: dict[str, Any]) -> None:
    """Train one stage on this rank.

    Args:
        settings: ``config``, the job's settings, ``run``, the stage's MLflow run, ``stage``, and ``home``, its folder.
    """
    config, stage = from_dict(SelfTrainConfig, settings["config"]), settings["stage"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    share_cores(config.scale.threads)
    device = ray.train.torch.get_device()
    data = open_data(config)
    stream = open_stream(data, config, stage, rank=rank, world=world)
    # Fresh weights in every stage: of the stages before, only the masks go on.
    network = build_semantic(config.network, classes=len(data.table), auxiliary=AUXILIARY_HEADS[stage]).to(device)
    model = DistributedDataParallel(network) if world > 1 else network
    loop = SemanticLoop(model, stream, config.training, stage=stage, device=device)
    resume(loop)
    keeper = CheckpointWriter(loop, data, config, Run(**settings["run"]), settings["home"]) if rank == 0 else None
    for report in loop.run():
        if keeper:
            keeper.see(report)
        if report.step % config.checkpoint_every == 0 or report.step == loop.steps:
            # A barrier: every rank reports, rank 0 with the checkpoint.
            keeper.save() if keeper else ray.train.report({})


class CheckpointWriter:
    """Rank 0's part for all: logs, measures the deployed weights, and keeps checkpoints."""

    def __init__(self, loop: SemanticLoop, data: SelfTrainData, config: SelfTrainConfig, run: Run, home: str):
        self.loop, self.data, self.config, self.home = loop, data, config, home
        self.validator = Validator(config, data.table) if config.val_collection else None
        batch = config.training.stage(loop.stage)
        pictures = batch.labelled + batch.pool
        self.journal = MetricsLogger(run=run, every=config.log_every, episodes=pictures, images=1, last=loop.steps)
        self._snapshots = config.snapshots() if loop.stage == 1 else ()

    def see(self, report: SemanticReport) -> None:
        """Log a step, and keep the weights of an early one where they are asked for."""
        self.journal.add(report)
        if report.step % self.config.log_every == 0 or report.step == self.loop.steps:
            self.journal.log({f"loss.{name}": value for name, value in report.parts.items()}, report.step)
        if report.step in self._snapshots:
            number = self._snapshots.index(report.step)
            place = storage.join(self.home, f"{SNAPSHOT}-{number}")
            save_semantic(self.loop.network, place, class_ids=self.data.table.ids, extra={"step": report.step})

    def save(self) -> None:
        """Measure the weights that the stage would hand on now, and report a checkpoint."""
        metrics = {STEP: float(self.loop.step)}
        with reported_checkpoint(metrics) as folder:
            torch.save(self.loop.state_dict(), folder / STATE)
            with self.deployed():
                metrics |= self.measure()
                progress = {"stage": self.loop.stage, "run_id": self.journal.run.run_id, **metrics}
                ids, extra = self.data.table.ids, {"training": progress}
                save_semantic(self.loop.network, folder / MODEL, class_ids=ids, extra=extra)
            (folder / PROGRESS).write_text(json.dumps(progress))

    def measure(self) -> dict[str, float]:
        """Return and log the validation metrics; none without validation pictures."""
        if self.validator is None:
            return {}
        confusion = self.validator.measure(self.loop.network)
        per_class = zip(self.data.table.ids, confusion.iou().tolist(), strict=True)
        known = {f"val_iou.{class_id}": iou for class_id, iou in per_class if not np.isnan(iou)}
        weights = "averaged" if self.loop.ema else "raw"
        self.journal.log({f"{VAL_MIOU}.{weights}": confusion.miou(), **known}, self.loop.step)
        return {VAL_MIOU: confusion.miou()}

    def deployed(self) -> AbstractContextManager[None]:
        """Give the network the weights that masks are made with: the teacher's, where there is one."""
        return self.loop.ema.applied(self.loop.network) if self.loop.ema else nullcontext()
