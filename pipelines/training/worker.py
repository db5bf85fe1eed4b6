"""The training worker: it trains, logs, validates and writes checkpoints."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import ray
import ray.train
from torch.nn.parallel import DistributedDataParallel

from fss.core.config import from_dict
from fss.inference.painted import TRAINING_DATA
from fss.models import FewShotSegmenter, save_checkpoint
from fss.models.precision import set_precision
from fss.models.speed import prepare_training
from fss.tracking.run import Run
from fss.training.few_shot.loop import TrainLoop
from fss.training.few_shot.validation import Validator
from fss.training.loop import StepReport
from fss.visualize import episode_legend, episode_sheet
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
from pipelines.training.config import TrainJobConfig
from pipelines.training.data import TrainingData
from pipelines.training.previews import predicted_views

MODEL = "model"  # folder of the segmenter in a checkpoint
VALIDATION = "validation"  # key of the metrics of the kept weights in the JSON of a checkpoint's segmenter


def train_worker(settings: dict[str, Any]) -> None:
    """Train on this rank.

    Args:
        settings: ``config``, the training job's resolved configuration, and ``run``, the MLflow run, as plain values;
            ``data``, a list with the reference of the :class:`TrainingData`; ``hashes``, the hashes of the data; and
            ``stop``, the file of :mod:`pipelines.runtime.stopping`.
    """
    config = from_dict(TrainJobConfig, settings["config"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    share_cores(config.scale.threads_per_worker)
    device = worker_device(config.scale.device)
    set_precision(config.optimizer.precision, device)
    data: TrainingData = ray.get(settings["data"][0])
    stream = data.stream(rank=rank, world=world)
    segmenter = FewShotSegmenter.from_config(config.segmenter).to(device)
    model = DistributedDataParallel(segmenter) if world > 1 else segmenter
    loop = TrainLoop(model, stream, config.optimizer, device=device, seed=config.seed)
    earlier = resume(loop, model=MODEL).get("training", {})
    loop.precision = prepare_training(segmenter, loop.precision, compile=config.optimizer.compile).autocast
    writer = SharedValidation(loop, data.validator(stream, loop.precision), config)
    if rank == 0:
        record = {"data": settings["hashes"], TRAINING_DATA: data.record(settings["hashes"])}
        writer = CheckpointWriter(loop, writer.validator, config, Run(**settings["run"]), record)
    due = every(config.checkpoint_every, last=config.optimizer.steps)
    if VALIDATION in earlier:  # a sweep that was stopped may have missed them
        ray.train.report({**earlier[VALIDATION], "step": earlier["step"]})
    with stop_requested(settings["stop"], device) as stop:
        run_steps(loop.run(), writer, due=due, stop=stop)
    writer.close()


class SharedValidation:
    """Scores the weights of a checkpoint, together with the other workers."""

    def __init__(self, loop: TrainLoop, validator: Validator, config: TrainJobConfig):
        self.loop, self.validator, self.config = loop, validator, config

    def add(self, report: StepReport) -> None:
        """Do nothing: rank 0 logs the steps."""

    def save(self, *, validate: bool = True) -> None:
        """Score the current weights, and wait for the checkpoint of rank 0."""
        if validate:
            self.metrics()
        ray.train.report({})

    def close(self) -> None:
        """Do nothing: rank 0 logs."""

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return the validation metrics by weights (averaged, raw), for all weights that ``keep_weights`` allows."""
        keep = self.config.keep_weights
        metrics = {}
        for name in ("averaged", "raw") if keep == "better" else (keep,):
            with self.weights(name):
                metrics[name] = self.validator.validate(self.loop.segmenter, self.loop.device)
        return metrics

    def weights(self, name: str) -> AbstractContextManager[None]:
        """Return a context in which the segmenter has its ``averaged`` or its ``raw`` weights."""
        return self.loop.ema.applied(self.loop.segmenter) if name == "averaged" else nullcontext()


class CheckpointWriter(SharedValidation):
    """Writes the checkpoints on rank 0: validates the weights, and logs metrics and pictures."""

    def __init__(
        self, loop: TrainLoop, validator: Validator, config: TrainJobConfig, run: Run, record: Mapping[str, Any]
    ):
        super().__init__(loop, validator, config)
        self.record = dict(record)
        self.logger = MetricsLogger(
            run=run,
            every=config.log_every,
            episodes=config.stream.batch_size,
            images=1 + config.shots,
            last=config.optimizer.steps,
        )

    def add(self, report: StepReport) -> None:
        """Log a step."""
        self.logger.add(report)

    def close(self) -> None:
        """Wait for MLflow to take what is logged."""
        self.logger.run.flush(FLUSH_S)

    def save(self, *, validate: bool = True) -> None:
        """Validate the current weights and report a checkpoint."""
        score, step = self.validator.score, self.loop.step
        if not validate:
            with reported_checkpoint({score: UNSCORED, "step": step}) as folder:
                write_state(folder, self.loop, {"step": step, "run_id": self.logger.run.run_id})
                assert isinstance(self.loop.segmenter, FewShotSegmenter)
                save_checkpoint(self.loop.segmenter, folder / MODEL)
            return
        metrics = self.metrics()
        scores = {name: values[score] for name, values in metrics.items()}
        keep = self.config.keep_weights
        best = max(scores, key=lambda name: scores[name]) if keep == "better" else keep
        progress = {"step": step, "run_id": self.logger.run.run_id, "weights": best, score: scores}
        self.logger.log(
            {
                f"{validation_name(metric)}.{name}": value
                for name, values in metrics.items()
                for metric, value in values.items()
            },
            step,
        )
        with reported_checkpoint({**metrics[best], "step": step}) as folder:
            write_state(folder, self.loop, progress)
            with self.weights(best):
                assert isinstance(self.loop.segmenter, FewShotSegmenter)
                record = {"training": {**progress, VALIDATION: metrics[best]}, **self.record}
                save_checkpoint(self.loop.segmenter, folder / MODEL, extra=record)
                self.draw()

    def draw(self) -> None:
        """Log the first validation tasks, which are always the same, with the predictions of the current weights."""
        views = predicted_views(self.loop.segmenter, self.validator.examples().to(self.loop.device))
        title = f"{self.validator.title}, step {self.loop.step}: {episode_legend(len(views[0].supports))}"
        self.logger.run.log_image(f"held_out/step-{self.loop.step:07d}.png", episode_sheet(views, title=title))
