"""What a verification would cost, from one episode and one training step timed on this machine with random weights."""

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
"""Images of a fold that episodes draw from, about; COCO has more than an evaluation of a few episodes meets."""
_TIMED = 2
"""Episodes in the training step that is timed."""


@dataclass(frozen=True, kw_only=True)
class EpisodeCost:
    """Seconds of one process on this machine."""

    encode: float
    """To encode one image."""
    decide: float
    """To compare one query with one support."""


class CostMeter:
    """Times every network once."""

    def __init__(self) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._known: dict[SegmenterConfig, EpisodeCost] = {}
        self._steps: dict[SegmenterConfig, float] = {}

    def hours(self, claim: Claim, episodes: int | None, size: int | None = None) -> float:
        """Estimate the hours of one process to evaluate the models of a claim.

        Args:
            claim: with a known backbone.
            episodes: per fold; None: the protocol's number.
            size: pixels a side; None: the published ones.
        """
        benchmark, learner = BENCHMARKS[claim.dataset], claim.model.lower()
        size = size or published_image_size(learner, "coco" if benchmark == "coco-to-pascal" else benchmark)
        network = SegmenterConfig(
            learner=learner,  # type: ignore[arg-type]  # a claim's words are checked where its needs are found
            masking=claim.masking,  # type: ignore[arg-type]
            backbone=backbone_name(claim),
            image_size=size,
            frozen=True,
        )
        count = episodes or _EPISODES["masksplit" if learner == "masksplit" else benchmark]
        folds = 1 if benchmark == "fss" else FOLDS
        return folds * self._evaluation(network, count, claim.shots, _POOL[benchmark]) / 3600

    def training_hours(self, config: TrainJobConfig) -> float:
        """Estimate the hours of one process to train a model, its validations included."""
        network = replace(config.segmenter, backbone_weights=None, frozen=True)
        episodes = config.optimizer.steps * config.stream.batch_size
        checkpoints = math.ceil(config.optimizer.steps / config.checkpoint_every)
        benchmark = config.classes.benchmark
        assert benchmark is not None, "claims are about benchmarks"
        judged = self._evaluation(network, config.classes.val_episodes, config.classes.shots, _POOL[benchmark])
        return (episodes * self._training_step(network) + checkpoints * judged) / 3600

    def _evaluation(self, network: SegmenterConfig, episodes: int, shots: int, pool: int) -> float:
        """Return the seconds of an evaluation: each image encoded once, twice where masked too."""
        cost = self._cost(network)
        passes = min(pool, episodes * (shots + 1)) * (2 if network.masking in ("input", "hybrid") else 1)
        return passes * cost.encode + episodes * shots * cost.decide

    @torch.no_grad()
    def _cost(self, network: SegmenterConfig) -> EpisodeCost:
        if network not in self._known:
            size = network.image_size
            _say("an episode", network)
            model = FewShotSegmenter.from_config(network).to(self._device).eval()
            image, mask = torch.zeros(1, 3, size, size, device=self._device), torch.ones(1, size, size).to(self._device)
            query, support = model.encode_query(image), model.encode_support(image, mask)
            encode = self._seconds(lambda: model.backbone(image))
            decide = self._seconds(lambda: model.decide(query, support, mask[:, None], (size, size)))
            self._known[network] = EpisodeCost(encode=encode, decide=decide)
        return self._known[network]

    def _training_step(self, network: SegmenterConfig) -> float:
        """Return the seconds of one episode's share of a step: forward and backward."""
        if network not in self._steps:
            size = network.image_size
            _say("a training step", network)
            model = FewShotSegmenter.from_config(network).to(self._device).train()
            images = torch.zeros(_TIMED, 3, size, size, device=self._device)
            masks = torch.ones(_TIMED, size, size, device=self._device)

            def step() -> None:
                logits = model(images, images[:, None], masks[:, None])
                cross_entropy_sum(logits, masks.long()).backward()  # type: ignore[no-untyped-call]

            self._steps[network] = self._seconds(step) / _TIMED
        return self._steps[network]

    def _seconds(self, work: Callable[[], object]) -> float:
        """Return how long some work takes: the shorter of two times, because the first warms up."""
        found = []
        for _ in range(2):
            began = time.perf_counter()
            work()
            if self._device.type == "cuda":
                torch.cuda.synchronize()
            found.append(time.perf_counter() - began)
        return min(found)


def _say(what: str, network: SegmenterConfig) -> None:
    name = f"{network.learner} ({network.masking}) on {network.backbone} at {network.image_size} px"
    print(f"[reproduce] timing {what} of {name}", file=sys.stderr, flush=True)
