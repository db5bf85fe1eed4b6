"""Hours of a verification on a GPU, computed from counted operations: no GPU is needed, and no network runs."""

from collections.abc import Collection

from fss.evaluation.claims import Claim
from fss.models import SegmenterConfig
from fss.models.config import Precision
from pipelines.reproduction.config import ReproduceConfig
from pipelines.reproduction.cost import CostMeter, EpisodeCost
from pipelines.reproduction.requirements import BENCHMARKS, METRICS, UNKNOWN, backbone_name
from pipelines.training.config import TrainJobConfig

FLOPS: dict[Precision, float] = {"fp32": 10e12, "tf32": 40e12, "bf16": 75e12}
"""Assumed operations per second by precision: about half of what the data sheet of an A100 promises, or less."""

GFLOP: dict[tuple[str, str, int], tuple[float, float, float]] = {
    ("asnet", "resnet50", 400): (26.4, 24.4, 100.5),
    ("asnet", "resnet101", 400): (50.1, 40.1, 165.6),
    ("density", "resnet50", 400): (26.4, 7.2, 0.0),
    ("hsnet", "resnet50", 400): (26.4, 60.1, 168.5),
    ("hsnet", "resnet101", 400): (50.1, 74.5, 231.1),
    ("masksplit", "resnet101_deepstem", 400): (225.0, 9.6, 568.0),
    ("vat", "resnet50", 417): (30.1, 230.2, 589.0),
    ("vat", "resnet50", 473): (37.4, 230.2, 603.5),
    ("vat", "resnet101", 417): (57.8, 269.3, 685.9),
    ("vat", "resnet101", 473): (71.5, 269.3, 713.3),
}
"""GFLOP by (learner, backbone, image size): to encode an image, to compare a query with a support, and per episode of a
training step without masking. ``python -m tests.benchmarks.count_flops`` counts them."""


class GpuCostMeter(CostMeter):
    """Computes the seconds of an operation on one GPU from the number of its floating-point operations."""

    def __init__(self, *, evaluation: Precision, training: Precision) -> None:
        """Set the precisions of evaluations and trainings."""
        super().__init__()
        self._evaluation_flops, self._training_flops = FLOPS[evaluation], FLOPS[training]

    def _cost(self, network: SegmenterConfig) -> EpisodeCost:
        encode, decide, _ = _gflop(network)
        return EpisodeCost(encode=encode * 1e9 / self._evaluation_flops, decide=decide * 1e9 / self._evaluation_flops)

    def _training_step(self, network: SegmenterConfig) -> float:
        encode, _, step = _gflop(network)
        masked = encode if network.masking in ("input", "hybrid") else 0
        return (step + masked) * 1e9 / self._training_flops


def gpu_hours(claim: Claim, config: ReproduceConfig, trainings: Collection[TrainJobConfig]) -> str:
    """Describe the hours of a claim's evaluations and of ``trainings`` on one GPU.

    The text is empty for a claim that cannot be verified at all, and says so for a network that was not counted.
    """
    if claim.dataset not in BENCHMARKS or claim.metric not in METRICS or backbone_name(claim) == UNKNOWN:
        return ""
    meter = GpuCostMeter(evaluation=config.precision, training=config.training.precision)
    try:
        hours = f"{meter.hours(claim, config.episodes, config.training.image_size if trainings else None):.2f} h"
        if trainings:
            hours += f" and {sum(map(meter.training_hours, trainings)):.2f} h of training"
    except LookupError as error:
        return f"on a GPU: unknown, as {error}"
    return f"on one GPU such as an A100: about {hours} (computed, not measured; without reading the images)"


def _gflop(network: SegmenterConfig) -> tuple[float, float, float]:
    """Return the operations of a network.

    Raises:
        LookupError: they were not counted at this image size or with this backbone.
    """
    key = (network.learner, network.backbone, network.image_size)
    if key not in GFLOP:
        raise LookupError(f"{network.learner} on {network.backbone} at {network.image_size} px was not counted")
    return GFLOP[key]
