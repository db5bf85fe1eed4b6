"""Votes of a segmenter: its predictions for one image under different views and support sets.

Votes are kept apart by view and by support set, because their agreement measures how reliable they are.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import numpy as np
import torch
from cachetools import LRUCache, cachedmethod
from torch import Tensor

from fss.core.arrays import Float32, UInt8
from fss.evaluation.methods import FeatureCache
from fss.images.resize import mask_canvas
from fss.models.config import Precision
from fss.models.features import Features, concat_features, take_features
from fss.models.precision import autocast
from fss.models.segmenter import FewShotSegmenter
from fss.relabel.supports import Shot, Support, SupportSets
from fss.relabel.views import View, network_input


@dataclass(frozen=True)
class SegmentationQuery:
    """An image of a batch and the support sets to segment it with."""

    index: int
    """Index of the image in its batch."""
    sets: SupportSets
    """R support sets: either all supports come from the bank, or all come from the image itself."""


class Voter:
    """A segmenter that encodes every image once per view and caches the features of supports.

    ``encoded`` counts the images that it has encoded. ``seconds`` is the time spent in the network, without the time
    to read supports.
    """

    def __init__(
        self,
        segmenter: FewShotSegmenter,
        read: Callable[[str], Shot],
        *,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        cache_gb: float = 2.0,
    ):
        """Wrap a segmenter.

        Args:
            segmenter: the network; it is moved to ``device`` and put into evaluation mode.
            read: returns a support of the bank by its name, at the segmenter's image size.
            device: where the network runs.
            precision: of the network's arithmetic.
            cache_gb: size of the cache of support features, in gigabytes of the device's memory.
        """
        self.segmenter = segmenter.to(device).eval()
        self.size = segmenter.config.image_size
        self.device, self.precision = torch.device(device), precision
        self.encoded = 0
        self.seconds = 0.0
        self._read, self._limit = read, cache_gb * 1e9
        self._shots: LRUCache[str, Shot] = LRUCache(1e9, getsizeof=attrgetter("nbytes"))
        self._features: dict[int, FeatureCache[str]] = {}

    @torch.inference_mode()
    def vote(self, canvases: UInt8, queries: Sequence[SegmentationQuery], views: Sequence[View]) -> list[Float32]:
        """Segment images once per view and support set.

        Args:
            canvases: uint8 [B,S,S,3].
            queries: each refers to one of the B images and has R support sets; an image may have several queries.
            views: V views of the images. Supports are resized to the view's scale but never mirrored.

        Returns:
            For each query the probability of the object, mapped back to the image, float32 [V,R,S,S].
        """
        start = time.perf_counter()
        groups: dict[tuple[int, int, bool], list[int]] = {}  # queries of one shape share a forward pass
        for number, query in enumerate(queries):
            first = query.sets[0]
            shape = len(query.sets), len(first), isinstance(first[0], str)
            groups.setdefault(shape, []).append(number)
        votes = [np.empty((len(views), len(query.sets), self.size, self.size), np.float32) for query in queries]
        images = torch.from_numpy(canvases).to(self.device)
        with autocast(self.device, self.precision):
            for v, view in enumerate(views if queries else ()):
                encoded = self.segmenter.encode_query(network_input(images, view))
                self.encoded += len(images)
                for (sets, *_), numbers in groups.items():
                    group = [queries[number] for number in numbers]
                    features = take_features(encoded, torch.tensor([q.index for q in group], device=self.device))
                    for r in range(sets):
                        predictions = self._predict(features, [q.sets[r] for q in group], view).cpu().numpy()
                        for number, prediction in zip(numbers, predictions, strict=True):
                            votes[number][v, r] = prediction
        self.seconds += time.perf_counter() - start
        return votes

    def _predict(self, query: Features, supports: Sequence[Sequence[Support]], view: View) -> Tensor:
        """Return the probability of the object for each query with its own supports, [b,S,S]."""
        shots, side = len(supports[0]), view.side(self.size)
        features, masks = self._encode([support for own in supports for support in own], side)
        logits = self.segmenter.decode(query, features, masks.reshape(-1, shots, *masks.shape[1:]), (side, side))
        return view.undo(logits.float().softmax(1)[:, 1:], self.size)[:, 0]

    def _encode(self, supports: Sequence[Support], side: int) -> tuple[Features, Tensor]:
        """Return features and masks [N,side,side] of supports; features of the bank's supports are cached."""
        names = [support for support in supports if isinstance(support, str)]
        shots = [self._shot(support) if isinstance(support, str) else support for support in supports]
        masks = self._masks(shots, side)
        if not names:
            return self._encode_shots(shots, side), masks
        if side not in self._features:
            # Batches of one: the last digits of a sum depend on the batch, and a batch of the cache's misses would
            # depend on earlier requests.
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

    @cachedmethod(attrgetter("_shots"))
    def _shot(self, name: str) -> Shot:
        start = time.perf_counter()
        shot = self._read(name)
        self.seconds -= time.perf_counter() - start  # reading is no network time
        return shot
