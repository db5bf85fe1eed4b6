"""Encoded supports, and the predictions for many queries by them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fss.core.arrays import UInt8
from fss.core.prefetch import batched
from fss.inference.inputs import Encoded, PictureLike, read_picture
from fss.inference.prediction import Prediction
from fss.inference.query_views import QueryViews
from fss.models.config import Scales
from fss.models.features import Features, split_features
from fss.models.scales import TILES

if TYPE_CHECKING:
    from fss.inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class EncodedSupports:
    """K supports, ready for queries."""

    features: Features
    """Their encoding."""
    masks: Tensor
    """Their masks on the network's canvas, [1,K,H,W]."""
    pairs: Sequence[tuple[UInt8, UInt8]]
    """Pairs of picture, uint8 [H,W,3], and mask, uint8 [H,W], as they were read or made."""
    notes: tuple[str, ...]
    """What the user should know about the masks, one sentence each."""


class Examples:
    """Encoded supports of a :class:`~fss.inference.predictor.Predictor`, and negative ones."""

    def __init__(self, predictor: "Predictor", supports: EncodedSupports, negatives: EncodedSupports | None) -> None:
        self.predictor = predictor
        self.supports = supports.pairs
        """Pairs of picture and mask (see :class:`EncodedSupports`)."""
        self.negatives = negatives.pairs if negatives else []
        """Pairs of the negative examples."""
        self.notes = supports.notes + (negatives.notes if negatives else ())
        """What the user should know about the masks, one sentence each; every note was a
        :class:`~fss.inference.predictor.SupportWarning`."""
        self._supports, self._negatives = supports, negatives

    def predict(
        self,
        query: PictureLike,
        *,
        refine: bool = True,
        scales: Scales = "whole",
        flip: bool = False,
        presence_threshold: float | None = None,
    ) -> Prediction:
        """Segment a picture of any kind and size.

        Args:
            query: the picture.
            refine: whether outlines follow the edges of the picture, at its own size
                (:func:`fss.relabel.edge_refinement.refine_outlines`), instead of those of the network's grid.
            scales: ``whole`` sees the picture in one pass, ``tiles`` also in nine tiles, and ``adaptive`` in tiles if
                the supports and the answer for the whole picture show a small object (:mod:`fss.models.scales`).
            flip: whether the picture is seen mirrored too, for a second pass.
            presence_threshold: presence below which the mask is empty, because the object is not found; None takes the
                model's own, and 0 empties none.

        Raises:
            ValueError: the picture or an option is invalid.
        """
        (prediction,) = self.predict_many(
            [query], batch_size=1, refine=refine, scales=scales, flip=flip, presence_threshold=presence_threshold
        )
        return prediction

    def predict_many(
        self,
        queries: Iterable[PictureLike],
        *,
        batch_size: int | None = None,
        refine: bool = True,
        scales: Scales = "whole",
        flip: bool = False,
        presence_threshold: float | None = None,
    ) -> Iterator[Prediction]:
        """Yield the predictions for pictures of any kind and size, in their order.

        Args:
            queries: the pictures: a list or an iterator, or a stack [N,H,W,3] (as a tensor [N,3,H,W]); they are read
                batch by batch.
            batch_size: pictures that go through the backbone at once; None uses that of the predictor.
            refine: as in :meth:`predict`.
            scales: as in :meth:`predict`; tiles go through the backbone one by one.
            flip: as in :meth:`predict`; mirrored pictures go through the backbone one by one.
            presence_threshold: as in :meth:`predict`.

        Raises:
            ValueError: a picture or an option is invalid.
        """
        _check_options(refine, scales, flip, presence_threshold)
        _check_queries(queries, batch_size)
        own = self.predictor.segmenter.calibration.threshold
        threshold = own if presence_threshold is None else presence_threshold
        for batch in batched(queries, batch_size or self.predictor.batch_size):
            pictures = [read_picture(query) for query in batch]
            for rgb, encoded in zip(pictures, self._encode(pictures), strict=True):
                yield self._answer(rgb, encoded, refine=refine, scales=scales, flip=flip, threshold=threshold)

    @torch.no_grad()
    def _encode(self, pictures: Sequence[UInt8]) -> list[Features]:
        with self.predictor.autocast():
            encoded = self.predictor.network.encode_query(self.predictor.canvases(pictures))
        return split_features(encoded, [1] * len(pictures))

    @torch.no_grad()
    def _answer(
        self, rgb: UInt8, encoded: Features, *, refine: bool, scales: Scales, flip: bool, threshold: float
    ) -> Prediction:
        views = QueryViews(self.predictor.network, self.predictor.canvases, rgb, encoded)
        with self.predictor.autocast():
            probability, in_tiles = views.probability(self._supports.features, self._supports.masks, scales, flip=flip)
            if self._negatives is not None:
                negatives = self._negatives.features, self._negatives.masks
                other, _ = views.probability(*negatives, "tiles" if in_tiles else "whole", flip=flip)
                # Above 0.5 only where both conditions of the docstring of `examples` hold.
                probability = np.minimum(probability, probability / np.maximum(probability + other, 1e-6))
        confidence, presence = self._judge(probability, encoded)
        if refine:
            from fss.relabel.edge_refinement import refine_outlines  # imports numba

            probability = refine_outlines(probability, rgb)
        mask = (probability > (0.5 if presence >= threshold else np.inf)).astype(np.uint8)
        return Prediction(
            mask=mask,
            probability=probability,
            confidence=confidence,
            presence=presence,
            found=bool(mask.any()),
            passes=1 + flip + len(TILES) * in_tiles,
        )

    def _judge(self, probability: NDArray[np.float32], query: Features) -> tuple[float, float]:
        """Return the confidence and the presence of an answer."""
        segmenter, supports = self.predictor.segmenter, self._supports
        answer = torch.from_numpy(probability)[None].to(self.predictor.device)
        signals = segmenter.signals(answer, query, supports.features, supports.masks)
        calibration = segmenter.calibration
        return float(calibration.confidence(signals)[0]), float(calibration.presence(signals)[0])


def _check_queries(queries: object, batch_size: object) -> None:
    """Refuse a single picture, whose rows or channels would count as pictures, and batches without pictures.

    Raises:
        ValueError: the queries are a single picture, or the batch size is no whole number of at least 1.
    """
    is_stack = isinstance(queries, np.ndarray | Tensor) and queries.ndim == 4
    if isinstance(queries, Encoded | Image.Image) or (isinstance(queries, np.ndarray | Tensor) and not is_stack):
        shape = f" {list(queries.shape)}" if isinstance(queries, np.ndarray | Tensor) else ""
        raise ValueError(
            "the queries must be several pictures: a list, an iterator, or a stack [N,H,W,3] (a tensor [N,3,H,W]), got "
            f"{type(queries).__name__}{shape}; predict takes a single one"
        )
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size must be a whole number of at least 1, or None, got {batch_size!r}")


def _check_options(refine: object, scales: object, flip: object, presence_threshold: object) -> None:
    """Refuse options that would silently mean something else.

    Raises:
        ValueError: an option has another type or value than its annotation allows.
    """
    if scales not in get_args(Scales):
        raise ValueError(f"scales must be {', '.join(get_args(Scales))}, got {scales!r}")
    for name, value in (("refine", refine), ("flip", flip)):
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False, got {value!r}")
    is_number = isinstance(presence_threshold, Real) and not isinstance(presence_threshold, bool)
    if presence_threshold is not None and not (is_number and 0 <= float(cast(float, presence_threshold)) <= 1):
        raise ValueError(f"presence_threshold must be a number in 0..1, or None, got {presence_threshold!r}")
