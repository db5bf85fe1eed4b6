"""The estimated time of the main job's training on this machine, from a few timed steps."""

import math
from dataclasses import replace

from fss.models.saliency.network import SaliencyStudent
from fss.saliency.cost_estimate import duration
from fss.training.few_shot.cost_estimate import measure_step
from pipelines.training.config import TrainJobConfig


def training_estimate(config: TrainJobConfig, prior: SaliencyStudent | None = None) -> str:
    """Return one line with the steps, the network (with a prior that is yet to be trained) and the estimated time."""
    segmenter = replace(config.segmenter, image_size=config.training_size)
    step_s = measure_step(segmenter, config.stream.batch_size, device=config.scale.device, prior=prior)
    lanes = config.stream.lane_count
    share = math.ceil(lanes / min(config.scale.workers, lanes)) / lanes  # of the worker with the most lanes
    seconds = config.optimizer.steps * step_s * share
    work = f"{config.optimizer.steps:,} steps of {config.stream.batch_size} episodes"
    network = f"{config.segmenter.learner} on {config.segmenter.backbone} at {config.training_size} px"
    return f"{work}, {network}, on {config.scale.device}: about {duration(seconds)}"
