"""What the main job will do, and the estimated time of its training on this machine, from a few timed steps."""

import math
from dataclasses import replace

from fss.core import storage
from fss.models.saliency.network import SaliencyStudent
from fss.saliency.cost_estimate import duration
from fss.training.few_shot.cost_estimate import measure_step
from pipelines.end_to_end.config import MaskSplitJobConfig
from pipelines.end_to_end.inputs import Input
from pipelines.end_to_end.student import untrained_prior
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


def planned_stages(config: MaskSplitJobConfig, photographs: Input, labelled: Input | None) -> dict[str, str]:
    """Return what each stage of the job will do, by its name in the order of the work."""
    estimator, quantile = config.pseudomask.estimator, config.pseudomask.accept_quantile
    training, evaluate = config.train_job(photographs.collection), config.evaluate
    stages = {
        "photographs": photographs.describe(),
        "pseudo-masks": f"of the salient object (--estimator {estimator}); the best {quantile:.0%} are used",
    }
    if config.saliency_student == "auto":
        student = config.saliency_training
        rounds = f"up to {student.training.rounds} rounds of {student.training.epochs} epochs"
        stages["saliency student"] = (
            f"{student.student.backbone}, {rounds}, at most {student.images:,} images; its masks train the segmenter"
        )
    stages["training"] = training_estimate(training, untrained_prior(config))
    stages["evaluation"] = "none; --evaluation FOLDER names labelled pictures"
    if labelled is not None:
        shots = " and ".join(str(shots) for shots in evaluate.shots)
        baselines = ", beside the baselines" if evaluate.baselines else ""
        stages["evaluation"] = (
            f"{evaluate.episodes} episodes each for {shots} shots, from {labelled.describe()}{baselines}"
        )
    if config.rounds:
        stages["rounds"] = f"at most {config.rounds}: new masks by the trained model, and a new training"
    return stages | {"output folder": storage.absolute_uri(config.output)}
