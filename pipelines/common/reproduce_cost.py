"""What a verification would cost, from one episode timed on this machine with random weights."""

import time
from dataclasses import dataclass

import torch

from fss.episodes.folds import FOLDS
from fss.evaluation.claims import Claim
from fss.models import create_segmenter
from fss.models.published import published_image_size
from pipelines.common.reproduce_needs import BENCHMARKS, backbone_name

_EPISODES = {"pascal": 1000, "coco": 1000, "coco-to-pascal": 1000, "fss": 2400, "masksplit": 2500}
_POOL = {"pascal": 363, "coco": 1000, "coco-to-pascal": 1449, "fss": 2400}
"""Images of a fold that episodes draw from, about; COCO has more than an evaluation of a few episodes meets."""


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
        self._known: dict[tuple[str, str, str, int], EpisodeCost] = {}

    def hours(self, claim: Claim, episodes: int | None) -> float:
        """Estimate the hours of one process to verify a claim: each image encoded once, twice where masked too.

        Args:
            claim: with a known backbone.
            episodes: per fold; None: the protocol's number.
        """
        benchmark, learner = BENCHMARKS[claim.dataset], claim.model.lower()
        size = published_image_size(learner, "coco" if benchmark == "coco-to-pascal" else benchmark)
        cost = self._cost(learner, claim.masking, backbone_name(claim), size)
        count = episodes or _EPISODES["masksplit" if learner == "masksplit" else benchmark]
        images = min(_POOL[benchmark], count * (claim.shots + 1))
        passes = images * (2 if claim.masking in ("input", "hybrid") else 1)
        folds = 1 if benchmark == "fss" else FOLDS
        return folds * (passes * cost.encode + count * claim.shots * cost.decide) / 3600

    @torch.no_grad()
    def _cost(self, learner: str, masking: str, backbone: str, size: int) -> EpisodeCost:
        key = (learner, masking, backbone, size)
        if key not in self._known:
            model = create_segmenter(learner=learner, masking=masking, backbone=backbone, image_size=size)
            model = model.to(self._device).eval()
            image, mask = torch.zeros(1, 3, size, size, device=self._device), torch.ones(1, size, size).to(self._device)
            query = model.encode_query(image)  # also warms up
            began = self._now()
            model.backbone(image)
            encoded = self._now()
            support = model.encode_support(image, mask)
            ready = self._now()
            model.decide(query, support, mask[:, None], (size, size))
            self._known[key] = EpisodeCost(encode=encoded - began, decide=self._now() - ready)
        return self._known[key]

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()
