"""What every training worker runs: set up, train, and between steps log, judge and checkpoint."""

import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import ray.train
import ray.train.torch
import torch
from torch.nn.parallel import DistributedDataParallel

from fss.core.config import from_dict
from fss.models import FewShotSegmenter, save_checkpoint
from fss.models.speed import speed_up
from fss.tracking.run import Run
from fss.training.few_shot.loop import TrainLoop
from fss.training.few_shot.validation import Validator
from fss.visualize import EPISODE_LEGEND, episode_sheet
from pipelines.runtime.metrics_logger import MetricsLogger
from pipelines.runtime.train_worker import STATE, reported_checkpoint, resume, share_cores
from pipelines.training.config import TrainJobConfig
from pipelines.training.data import open_stream, open_validator
from pipelines.training.previews import predicted_views

MODEL = "model"  # folder of the segmenter within a checkpoint
PROGRESS = "progress.json"


def train_worker(settings: dict[str, Any]) -> None:
    """Train on this rank.

    Args:
        settings: ``config``, the training job's settings, and ``run``, the MLflow run, both as plain values.
    """
    config = from_dict(TrainJobConfig, settings["config"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    share_cores(config.scale.threads)
    device = ray.train.torch.get_device()
    stream = open_stream(config, rank=rank, world=world)
    segmenter = FewShotSegmenter.from_config(config.segmenter).to(device)
    speed_up(segmenter, fold_batchnorm=False, compile=config.training.compile)
    model = DistributedDataParallel(segmenter) if world > 1 else segmenter
    loop = TrainLoop(model, stream, config.training, device=device)
    resume(loop)
    keeper = (
        CheckpointWriter(loop, open_validator(config, stream), config, Run(**settings["run"])) if rank == 0 else None
    )
    for report in loop.run():
        if keeper:
            keeper.journal.add(report)
        if report.step % config.checkpoint_every == 0 or report.step == config.training.steps:
            # A barrier: every rank reports, rank 0 with the checkpoint.
            keeper.save() if keeper else ray.train.report({})


class CheckpointWriter:
    """Rank 0's part for all: judges the weights, draws, logs, and keeps checkpoints."""

    def __init__(self, loop: TrainLoop, validator: Validator, config: TrainJobConfig, run: Run):
        self.loop, self.validator, self.config = loop, validator, config
        steps = config.training.steps
        self.journal = MetricsLogger(
            run=run, every=config.log_every, episodes=config.stream.batch_size, images=1 + config.shots, last=steps
        )

    def save(self) -> None:
        """Validator the present weights and report a checkpoint."""
        score, step = self.validator.score, self.loop.step
        metrics = self.metrics()
        scores = {name: found[score] for name, found in metrics.items()}
        keep = max(scores, key=lambda name: scores[name]) if self.config.weights == "better" else self.config.weights
        progress = {"step": step, "run_id": self.journal.run.run_id, "weights": keep, score: scores}
        self.journal.log({f"{key}.{name}": value for name, of in metrics.items() for key, value in of.items()}, step)
        with reported_checkpoint({**metrics[keep], "step": step}) as folder:
            torch.save(self.loop.state_dict(), folder / STATE)
            (folder / PROGRESS).write_text(json.dumps(progress))
            with self.weights(keep):
                assert isinstance(self.loop.segmenter, FewShotSegmenter)
                save_checkpoint(self.loop.segmenter, folder / MODEL, extra={"training": progress})
                self.draw()

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return the figures of the averaged and of the raw weights, of those that may be kept."""
        names = ("averaged", "raw") if self.config.weights == "better" else (self.config.weights,)
        metrics = {}
        for name in names:
            with self.weights(name):
                metrics[name] = self.validator.validate(self.loop.segmenter, self.loop.device)
        return metrics

    def weights(self, name: str) -> AbstractContextManager[None]:
        """Give the segmenter its ``averaged`` or its ``raw`` weights for the length of a block."""
        return self.loop.ema.applied(self.loop.segmenter) if name == "averaged" else nullcontext()

    def draw(self) -> None:
        """Log the same first tasks with the present weights' predictions."""
        views = predicted_views(self.loop.segmenter, self.validator.examples().to(self.loop.device))
        title = f"{self.validator.title}, step {self.loop.step}: {EPISODE_LEGEND}"
        self.journal.run.log_image(f"held_out/step-{self.loop.step:07d}.png", episode_sheet(views, title=title))
