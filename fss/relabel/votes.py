"""What a segmenter says of pictures, given other pictures or views of their own as supports.

The answers are kept apart by view and by support set, because how far they agree says how far they can be trusted.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fss.core.arrays import Float32, UInt8
from fss.evaluation.episode_images import Lru
from fss.evaluation.methods import FeatureCache
from fss.images.resize import mask_canvas
from fss.models.features import Features, concat_features, resize, take_features
from fss.models.segmenter import FewShotSegmenter
from fss.relabel.supports import Shot, Support, SupportSets
from fss.relabel.views import View, network_input


@dataclass(frozen=True)
class SegmentationQuery:
    """What is asked of a picture: where is what these supports show?"""

    picture: int
    """Its place in the batch."""
    sets: SupportSets
    """R support sets; all supports are of the bank, or all are the picture's own."""


class Voter:
    """A segmenter that encodes each support once, as long as there is room, and each picture once per view.

    ``encoded`` counts the images that it encoded, ``seconds`` is the time that it took, without reading supports.
    """

    def __init__(
        self,
        segmenter: FewShotSegmenter,
        read: Callable[[str], Shot],
        *,
        device: str | torch.device = "cpu",
        cache_gb: float = 2.0,
    ):
        """Wrap a segmenter.

        Args:
            segmenter: moved to ``device`` and put into evaluation mode.
            read: gives a support of the bank by its image id, at the segmenter's image size.
            device: where it computes; under half precision on a GPU.
            cache_gb: features of supports to keep, in gigabytes of the device's memory.
        """
        self.segmenter = segmenter.to(device).eval()
        self.size = segmenter.config.image_size
        self.device = torch.device(device)
        self.encoded = 0
        self.seconds = 0.0
        self._read, self._limit = read, cache_gb * 1e9
        self._shots: Lru[str, Shot] = Lru(1e9)
        self._features: dict[int, FeatureCache[str]] = {}

    @torch.inference_mode()
    def vote(self, canvases: UInt8, questions: Sequence[SegmentationQuery], views: Sequence[View]) -> list[Float32]:
        """Segment pictures once per view and support set.

        Args:
            canvases: uint8 [B,S,S,3].
            questions: each about one of the B pictures, with R support sets.
            views: V ways to look at the pictures; supports are seen at the view's scale, never mirrored.

        Returns:
            For each question the probability of the object, turned back to the picture, float32 [V,R,S,S].
        """
        start = time.perf_counter()
        groups: dict[tuple[int, int, bool], list[int]] = {}
        for number, question in enumerate(questions):
            first = question.sets[0]
            alike = len(question.sets), len(first), isinstance(first[0], str)
            groups.setdefault(alike, []).append(number)
        found = [np.empty((len(views), len(q.sets), self.size, self.size), np.float32) for q in questions]
        pictures = torch.from_numpy(canvases).to(self.device)
        with self._precision():
            for place, view in enumerate(views if questions else ()):
                query = self.segmenter.encode_query(network_input(pictures, view))
                self.encoded += len(pictures)
                for (sets, *_), numbers in groups.items():
                    asked = [questions[number] for number in numbers]
                    chosen = take_features(query, torch.tensor([q.picture for q in asked], device=self.device))
                    for r in range(sets):
                        answers = self._answer(chosen, [q.sets[r] for q in asked], view).cpu().numpy()
                        for number, answer in zip(numbers, answers, strict=True):
                            found[number][place, r] = answer
        self.seconds += time.perf_counter() - start
        return found

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def _answer(self, query: Features, supports: Sequence[Sequence[Support]], view: View) -> Tensor:
        """One answer for each query to its supports: [b,S,S]."""
        shots, side = len(supports[0]), view.side(self.size)
        features, masks = self._encode([support for own in supports for support in own], side)
        logits = resize(self.segmenter.learner(query, features, masks, shots), (side, side))
        return view.undo(logits.float().softmax(1)[:, 1:], self.size)[:, 0]

    def _encode(self, supports: Sequence[Support], side: int) -> tuple[Features, Tensor]:
        """Features and masks [N,side,side] of supports; those of the bank are kept."""
        names = [support for support in supports if isinstance(support, str)]
        shots = [self._shot(support) if isinstance(support, str) else support for support in supports]
        masks = self._masks(shots, side)
        if not names:
            return self._encode_shots(shots, side), masks
        if side not in self._features:
            # One at a time: sums depend on the batch in their last digits, and what is kept already on the past.
            encode = partial(self._encode_names, side=side)
            self._features[side] = FeatureCache(encode, batch=1, limit_bytes=self._limit)
        return self._features[side].get(names), masks

    def _encode_names(self, names: Sequence[str], side: int) -> Features:
        return concat_features([self._encode_shots([self._shot(name)], side) for name in names])

    def _encode_shots(self, shots: Sequence[Shot], side: int) -> Features:
        self.encoded += len(shots)
        canvases = torch.from_numpy(np.stack([shot.rgb for shot in shots])).to(self.device)
        images = network_input(canvases, View(scale=side / self.size))
        return self.segmenter.encode_support(images, self._masks(shots, side))

    def _masks(self, shots: Sequence[Shot], side: int) -> Tensor:
        return torch.from_numpy(np.stack([mask_canvas(shot.mask, side) for shot in shots])).float().to(self.device)

    def _shot(self, name: str) -> Shot:
        shot = self._shots.get(name)
        if shot is None:
            start = time.perf_counter()
            shot = self._read(name)
            self.seconds -= time.perf_counter() - start  # not spent in the network
            self._shots.put(name, shot, shot.rgb.nbytes + shot.mask.nbytes)
        return shot
