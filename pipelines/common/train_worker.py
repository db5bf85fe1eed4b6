"""What every training worker runs: set up, train, and between steps log, judge and checkpoint."""

import json
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train import Checkpoint
from torch.nn.parallel import DistributedDataParallel

from fss.collection import Collection
from fss.config import from_dict
from fss.figures import episode_sheet
from fss.models import FewShotSegmenter, build_segmenter, save_checkpoint
from fss.tracking import Run
from fss.training.loop import TrainLoop
from fss.training.selection import score_held_out
from fss.training.stream import MaskSplitStream
from pipelines.common.journal import Journal
from pipelines.common.overlays import predicted_views
from pipelines.common.ray_session import available_cores
from pipelines.common.train_config import TrainJobConfig

MODEL = "model"  # folder of the segmenter within a checkpoint
STATE = "loop.pt"
PROGRESS = "progress.json"
SCORE = "held_out_iou"


def train_worker(settings: dict[str, Any]) -> None:
    """Train on this rank.

    Args:
        settings: ``config``, the training job's settings, and ``run``, the MLflow run, both as plain values.
    """
    config = from_dict(TrainJobConfig, settings["config"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    # Ray gives a worker one thread per logical CPU it reserved; training wants its share of the real cores.
    torch.set_num_threads(max(1, available_cores() // context.get_local_world_size()))
    device = ray.train.torch.get_device()
    stream = make_stream(config, rank=rank, world=world)
    segmenter = build_segmenter(config.segmenter).to(device)
    model = DistributedDataParallel(segmenter) if world > 1 else segmenter
    loop = TrainLoop(model, stream, config.training, device=device)
    resume(loop)
    journal = open_journal(Run(**settings["run"]), config) if rank == 0 else None
    for report in loop.run():
        if journal:
            journal.add(report)
        if report.step % config.checkpoint_every == 0 or report.step == config.training.steps:
            save(loop, stream, config, journal)


def make_stream(config: TrainJobConfig, *, rank: int = 0, world: int = 1) -> MaskSplitStream:
    """Open the stream of episodes of one worker."""
    collection = Collection.open(config.collection)
    masks = collection.mask_set(config.mask_set)
    return MaskSplitStream(
        collection,
        masks,
        image_size=config.segmenter.image_size,
        stream=config.stream,
        split=config.split,
        augment=config.augment,
        accepted=masks.read_acceptance(config.acceptance).accepted if config.acceptance else None,
        rank=rank,
        world=world,
    )


def open_journal(run: Run, config: TrainJobConfig) -> Journal:
    """Return the journal, which rank 0 keeps for all."""
    return Journal(run=run, every=config.log_every, episodes=config.stream.batch, last=config.training.steps)


def resume(loop: TrainLoop) -> None:
    """Go on from the training's last checkpoint, where there is one."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder:
        loop.load_state_dict(torch.load(Path(folder) / STATE, map_location="cpu", weights_only=True))


def save(loop: TrainLoop, stream: MaskSplitStream, config: TrainJobConfig, journal: Journal | None) -> None:
    """Judge the present weights and report a checkpoint; a barrier, so every rank calls it."""
    if journal is None:
        ray.train.report({})
        return
    scores = held_out_scores(loop, stream, config.held_out_tasks)
    keep = max(scores, key=lambda name: scores[name]) if config.weights == "better" else config.weights
    progress = {"step": loop.step, "run_id": journal.run.run_id, "weights": keep, SCORE: scores}
    journal.log({f"{SCORE}.{name}": score for name, score in scores.items()}, loop.step)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(loop.state_dict(), folder / STATE)
        (folder / PROGRESS).write_text(json.dumps(progress))
        with weights(loop, keep):
            assert isinstance(loop.segmenter, FewShotSegmenter)
            save_checkpoint(loop.segmenter, folder / MODEL, extra={"training": progress})
            draw(loop, stream, journal)
        ray.train.report({SCORE: scores[keep], "step": loop.step}, checkpoint=Checkpoint.from_directory(name))


def held_out_scores(loop: TrainLoop, stream: MaskSplitStream, tasks: int) -> dict[str, float]:
    """Return the IoU on held-out pseudo-tasks of the averaged and of the raw weights."""
    scores = {}
    for name in ("averaged", "raw"):
        with weights(loop, name):
            held_out = stream.held_out(tasks)
            scores[name] = score_held_out(loop.segmenter, held_out, stream.image_size, device=loop.device).iou
    return scores


def weights(loop: TrainLoop, name: str) -> AbstractContextManager[None]:
    """Give the segmenter its ``averaged`` or its ``raw`` weights for the length of a block."""
    return loop.ema.applied(loop.segmenter) if name == "averaged" else nullcontext()


def draw(loop: TrainLoop, stream: MaskSplitStream, journal: Journal) -> None:
    """Log the same first held-out tasks with the present weights' predictions."""
    raw = next(stream.held_out(min(8, stream.config.batch)))
    views = predicted_views(loop.segmenter, raw.to(loop.device).render(stream.image_size))
    sheet = episode_sheet(views, title=f"held-out pseudo-tasks, step {loop.step}: support, truth, prediction")
    journal.run.log_figure(f"held_out/step-{loop.step:07d}.png", sheet)
