"""The classical saliency estimator: five cues, their mean, an edge-aware refinement, and what to think of the result.

Needs no weights and no labels. Working size, superpixels and refinement were chosen on photographs with ground truth
by ``tests/benchmarks/bench_saliency.py``; nothing was fitted to labels beyond this choice.
"""

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fss.core.arrays import BoolArray, Float32
from fss.saliency import quality
from fss.saliency.classical.cues import Cues, find_cues
from fss.saliency.classical.letterbox import inner_box
from fss.saliency.classical.refine import clean, refine
from fss.saliency.classical.superpixels import to_lab
from fss.saliency.config import SaliencyConfig

FEWEST_SEGMENTS = 9  # fewer superpixels are no graph to speak of
PIXELS_PER_SEGMENT = 30
TRUSTED = 1.4  # agreement plus contrast of a mask that can be relied on


@dataclass(frozen=True, kw_only=True)
class SaliencyResult:
    """What was found in one picture."""

    mask: npt.NDArray[np.uint8]
    """uint8 {0,1} [H,W]."""
    soft: Float32
    """float32 [H,W] in 0..1; its ranking is finer than the mask's."""
    scores: quality.Scores
    """Raw scores and gates, named as in ``fss.collection.schema``."""


class SaliencyEstimator:
    """Finds the salient object of a photograph."""

    def __init__(self, config: SaliencyConfig | None = None):
        self.config = config or SaliencyConfig()
        if self.config.working_pixels < 1024 or self.config.segments < FEWEST_SEGMENTS:
            raise ValueError(
                f"working_pixels is 1024 or more and segments {FEWEST_SEGMENTS} or more, got "
                f"{self.config.working_pixels} and {self.config.segments}; 50000 and 200 suit photographs"
            )

    def estimate(self, rgb: npt.NDArray[np.uint8], *, image_id: str = "") -> SaliencyResult:
        """Find the salient object.

        Args:
            rgb: uint8 [H,W,3].
            image_id: keys the random draws of library routines, so that a result never depends on what ran before.

        Returns:
            The result at the picture's own size; an empty mask with quality 0 where there is nothing to find.

        Raises:
            ValueError: not an uint8 RGB picture.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
            raise ValueError(f"expected uint8 [H,W,3], got {rgb.dtype} {list(rgb.shape)}; decode the picture first")
        cv2.setRNGSeed(zlib.crc32(image_id.encode()) & 0x7FFFFFFF)
        height, width = rgb.shape[:2]
        top, bottom, left, right = inner_box(rgb) if self.config.trim_frames else (0, height, 0, width)
        inner = rgb[top:bottom, left:right]
        lab = to_lab(self._shrink(inner))
        segments = min(self.config.segments, lab.shape[0] * lab.shape[1] // PIXELS_PER_SEGMENT)
        if segments < FEWEST_SEGMENTS or min(lab.shape[:2]) < 8:
            return _nothing(height, width)
        cues = find_cues(
            lab, segments=segments, iterations=self.config.slic_iterations, compactness=self.config.compactness
        )
        if not cues.mean.any():
            return _nothing(height, width)
        working_mask, soft, scores = self._decide(lab, cues)
        return finish(working_mask, soft, scores, (height, width), (top, bottom, left, right))

    def _shrink(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        height, width = rgb.shape[:2]
        scale = (self.config.working_pixels / (height * width)) ** 0.5
        if scale >= 1:
            return np.ascontiguousarray(rgb)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)

    def _decide(self, lab: Float32, cues: Cues) -> tuple[BoolArray, Float32, quality.Scores]:
        """Refine the mean cue, cut it, and score the mask; all at working size."""
        threshold = quality.otsu(cues.mean, cues.area)
        coarse = clean(cues.map > threshold)
        soft, mask, overlap = cues.map, coarse, 1.0
        if self.config.refine_rounds:
            soft = refine(lab, cues.map, threshold, rounds=self.config.refine_rounds)
            mask = clean(soft > 0.5)
            overlap = quality.weighted_iou(coarse, mask)
        refined = overlap >= 0.5
        if not refined:
            mask = coarse
        scores: quality.Scores = {
            "agreement": quality.agreement(cues.single, cues.area),
            "contrast": quality.contrast(lab, mask),
            "stability": quality.stability(cues.mean, cues.area),
            "separation": quality.separation(cues.map, mask),
            "refinement": overlap,
            "gate_refined": refined,
        }
        return mask, soft, scores


def finish(
    mask: BoolArray,
    soft: Float32,
    scores: quality.Scores,
    shape: tuple[int, int],
    box: tuple[int, int, int, int],
) -> SaliencyResult:
    """Bring a mask from working size to the picture's own and complete its scores.

    Args:
        mask: bool [h,w].
        soft: probability of the object, float32 [h,w].
        scores: the scores and ``gate_refined``; area, border and the other gates are added.
        shape: (H, W) of the picture.
        box: (top, bottom, left, right) of what [h,w] covers.
    """
    if not mask.any():
        return _nothing(*shape)
    top, bottom, left, right = box
    size = (right - left, bottom - top)
    side = np.where(mask, np.maximum(soft, 0.5 + 1e-3), np.minimum(soft, 0.5 - 1e-3)).astype(np.float32)
    inner = np.asarray(cv2.resize(side, size, interpolation=cv2.INTER_LINEAR), np.float32)
    full = np.zeros(shape, np.uint8)
    full[top:bottom, left:right] = inner > 0.5
    if not full.any():
        return _nothing(*shape)
    full_soft = np.zeros(shape, np.float32)
    full_soft[top:bottom, left:right] = _blend(inner, inner > 0.5, scores)
    scores = {**scores, "area": float(full.mean()), "border": quality.border_touch(full > 0)}
    scores |= quality.gates(full > 0, refined=bool(scores["gate_refined"]))
    return SaliencyResult(mask=full, soft=full_soft, scores=scores)


def _blend(soft: Float32, mask: BoolArray, scores: quality.Scores) -> Float32:
    """The soft map: the mask, higher the more its picture can be trusted, and finely ranked by the refined map.

    One threshold over many pictures then keeps sure masks longest, which is what a precision-recall curve rewards.
    """
    trust = min(1.0, (float(scores["agreement"]) + float(scores["contrast"])) / TRUSTED)
    rank = np.rint(8 * soft) / 8  # few levels: the map is stored as PNG
    return np.where(mask, 0.5 + 0.4 * trust + 0.1 * rank, 0.1 * trust * rank).astype(np.float32)


def _nothing(height: int, width: int) -> SaliencyResult:
    return SaliencyResult(
        mask=np.zeros((height, width), np.uint8),
        soft=np.zeros((height, width), np.float32),
        scores=quality.no_scores(),
    )
