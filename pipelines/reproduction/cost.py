"""Estimated hours of a verification, from one episode and one training step timed with random weights."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from fss.episodes.folds import FOLDS
from fss.evaluation.claims import Claim
from fss.models import FewShotSegmenter, SegmenterConfig
from fss.models.config import published_image_size
from fss.training.losses import cross_entropy_sum
from pipelines.reproduction.requirements import BENCHMARKS, backbone_name
from pipelines.training.config import TrainJobConfig

_EPISODES = {"pascal": 1000, "coco": 1000, "coco-to-pascal": 1000, "fss": 2400, "masksplit": 2500}
_POOL = {"pascal": 363, "coco": 1000, "coco-to-pascal": 1449, "fss": 2400}
"""Approximate number of distinct images in the episodes of a fold; COCO has more images than its 1000 episodes use."""
_TIMED = 2
"""Episodes in the timed training step."""


@dataclass(frozen=True, kw_only=True)
class EpisodeCost:
    """Seconds per operation of one process on this machine."""

    encode: float
    """Seconds to encode one image."""
    decide: float
    """Seconds to compare one query with one support."""


class CostMeter:
    """Times every network once, and estimates hours from it."""

    def __init__(self) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._costs: dict[SegmenterConfig, EpisodeCost] = {}
        self._steps: dict[SegmenterConfig, float] = {}

    @property
    def device_name(self) -> str:
        """Name of the device that the networks are timed on: CPU or GPU."""
        return "GPU" if self._device.type == "cuda" else "CPU"

    def hours(self, claim: Claim, episodes: int | None, size: int | None = None) -> float:
        """Estimate the hours of one process to evaluate the models of a claim.

        Args:
            claim: the claim; its backbone is known.
            episodes: episodes per fold; None: the number of the protocol.
            size: side of the images in pixels; None: the published size.
        """
        benchmark, learner = BENCHMARKS[claim.dataset], claim.model.lower()
        size = size or published_image_size(learner, "coco" if benchmark == "coco-to-pascal" else benchmark)
        network = SegmenterConfig(
            learner=learner,  # type: ignore[arg-type]  # find_needs has checked the claim
            masking=claim.masking,  # type: ignore[arg-type]
            backbone=backbone_name(claim),
            image_size=size,
            frozen=True,
        )
        count = episodes or _EPISODES["masksplit" if learner == "masksplit" else benchmark]
        folds = 1 if benchmark == "fss" else FOLDS
        return folds * self._evaluation(network, count, claim.shots, _POOL[benchmark]) / 3600

    def training_hours(self, config: TrainJobConfig) -> float:
        """Estimate the hours of one process to train a model, including its validations."""
        network = replace(config.segmenter, backbone_weights=None, frozen=True)
        episodes = config.optimizer.steps * config.stream.batch_size
        checkpoints = math.ceil(config.optimizer.steps / config.checkpoint_every)
        tasks = config.held_out_tasks if config.episodes == "split" else config.classes.val_episodes
        validation = self._evaluation(network, tasks, config.shots, _POOL[config.segmenter.benchmark])
        return (episodes * self._training_step(network) + checkpoints * validation) / 3600

    def _evaluation(self, network: SegmenterConfig, episodes: int, shots: int, pool: int) -> float:
        """Return the seconds of an evaluation, which encodes each image once, or twice with input or hybrid masking."""
        cost = self._cost(network)
        passes = min(pool, episodes * (shots + 1)) * (2 if network.masking in ("input", "hybrid") else 1)
        return passes * cost.encode + episodes * shots * cost.decide

    @torch.no_grad()
    def _cost(self, network: SegmenterConfig) -> EpisodeCost:
        if network not in self._costs:
            size = network.image_size
            _print_timing("an episode", network)
            model = FewShotSegmenter.from_config(network).to(self._device).eval()
            image, mask = torch.zeros(1, 3, size, size, device=self._device), torch.ones(1, size, size).to(self._device)
            query, support = model.encode_query(image), model.encode_support(image, mask)
            encode = self._seconds(lambda: model.backbone(image))
            decide = self._seconds(lambda: model.decide(query, support, mask[:, None], (size, size)))
            self._costs[network] = EpisodeCost(encode=encode, decide=decide)
        return self._costs[network]

    def _training_step(self, network: SegmenterConfig) -> float:
        """Return the seconds of a training step, forward and backward, per episode."""
        if network not in self._steps:
            size = network.image_size
            _print_timing("a training step", network)
            model = FewShotSegmenter.from_config(network).to(self._device).train()
            images = torch.zeros(_TIMED, 3, size, size, device=self._device)
            masks = torch.ones(_TIMED, size, size, device=self._device)

            def step() -> None:
                logits = model(images, images[:, None], masks[:, None])
                cross_entropy_sum(logits, masks.long()).backward()  # type: ignore[no-untyped-call]

            self._steps[network] = self._seconds(step) / _TIMED
        return self._steps[network]

    def _seconds(self, work: Callable[[], object]) -> float:
        """Return the seconds of ``work``: the minimum of two runs, because the first one warms up."""
        times = []
        for _ in range(2):
            start = time.perf_counter()
            work()
            if self._device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)


def _print_timing(work: str, network: SegmenterConfig) -> None:
    name = f"{network.learner} ({network.masking}) on {network.backbone} at {network.image_size} px"
    print(f"[reproduce] timing {work} of {name}", file=sys.stderr, flush=True)
