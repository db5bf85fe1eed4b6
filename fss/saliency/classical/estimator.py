"""The classical saliency estimator: five cues, their mean, an edge-aware refinement and quality scores.

It needs no weights and no labels. Working size, superpixels and refinement were chosen on photographs with ground truth
by ``tests/benchmarks/bench_saliency.py``; nothing else was fitted to labels.
"""

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fss.core.arrays import BoolArray, Float32
from fss.images.resize import shrink_to_area
from fss.saliency import quality
from fss.saliency.classical.cues import Cues, compute_cues
from fss.saliency.classical.letterbox import inner_box
from fss.saliency.classical.refine import clean, refine
from fss.saliency.classical.superpixels import to_lab
from fss.saliency.config import SaliencyConfig

FEWEST_SEGMENTS = 9  # a graph of fewer superpixels has no meaningful cues
PIXELS_PER_SEGMENT = 30
TRUSTED = 1.4  # agreement plus contrast at which a mask is fully trusted


@dataclass(frozen=True, kw_only=True)
class SaliencyResult:
    """Mask, soft map and scores of one image."""

    mask: npt.NDArray[np.uint8]
    """Mask of the salient object, uint8 [H,W] in {0,1}."""
    soft: Float32
    """Soft map, float32 [H,W] in 0..1, above one half within the mask."""
    scores: quality.Scores
    """Raw scores and gates by their names in ``fss.collection.schema``."""


class SaliencyEstimator:
    """Segments the salient object of a photograph."""

    def __init__(self, config: SaliencyConfig | None = None):
        self.config = config or SaliencyConfig()
        if self.config.working_pixels < 1024 or self.config.segments < FEWEST_SEGMENTS:
            raise ValueError(
                f"working_pixels is 1024 or more and segments {FEWEST_SEGMENTS} or more, got "
                f"{self.config.working_pixels} and {self.config.segments}; 50000 and 200 suit photographs"
            )

    def estimate(self, rgb: npt.NDArray[np.uint8], *, image_id: str = "") -> SaliencyResult:
        """Segment the salient object.

        Args:
            rgb: RGB image, uint8 [H,W,3].
            image_id: seeds OpenCV's random generator, so that a result does not depend on earlier calls.

        Returns:
            The result at the size of the image; an empty mask with all scores 0 where there is no salient object.

        Raises:
            ValueError: ``rgb`` is no uint8 RGB image.
        """
        check_rgb(rgb)
        cv2.setRNGSeed(zlib.crc32(image_id.encode()) & 0x7FFFFFFF)
        height, width = rgb.shape[:2]
        top, bottom, left, right = inner_box(rgb) if self.config.trim_frames else (0, height, 0, width)
        inner = rgb[top:bottom, left:right]
        lab = to_lab(shrink_to_area(inner, self.config.working_pixels))
        segments = min(self.config.segments, lab.shape[0] * lab.shape[1] // PIXELS_PER_SEGMENT)
        if segments < FEWEST_SEGMENTS or min(lab.shape[:2]) < 8:
            return _empty_result(height, width)
        cues = compute_cues(
            lab, segments=segments, iterations=self.config.slic_iterations, compactness=self.config.compactness
        )
        if not cues.mean.any():
            return _empty_result(height, width)
        working_mask, soft, scores = self._decide(lab, cues)
        return finish(working_mask, soft, scores, (height, width), (top, bottom, left, right))

    def _decide(self, lab: Float32, cues: Cues) -> tuple[BoolArray, Float32, quality.Scores]:
        """Refine and threshold the mean cue and score the mask, all at working size."""
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
            "agreement": quality.agreement(cues.per_cue, cues.area),
            "contrast": quality.contrast(lab, mask),
            "stability": quality.stability(cues.mean, cues.area),
            "separation": quality.separation(cues.map, mask),
            "refinement": overlap,
            "gate_refined": refined,
        }
        return mask, soft, scores


def check_rgb(rgb: npt.NDArray[np.uint8]) -> None:
    """Raise a ValueError unless ``rgb`` is a uint8 image [H,W,3] with at least one pixel."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ValueError(f"expected uint8 [H,W,3], got {rgb.dtype} {list(rgb.shape)}; decode the picture first")


def finish(
    mask: BoolArray,
    soft: Float32,
    scores: quality.Scores,
    shape: tuple[int, int],
    box: tuple[int, int, int, int],
) -> SaliencyResult:
    """Resize a mask from working size to the size of the image and complete its scores.

    Args:
        mask: mask at working size, bool [h,w].
        soft: probability of the object, float32 [h,w].
        scores: the scores and ``gate_refined``; area, border and the other gates are added.
        shape: height and width of the image.
        box: (top, bottom, left, right) of the part of the image that [h,w] covers, in pixels.
    """
    if not mask.any():
        return _empty_result(*shape)
    top, bottom, left, right = box
    size = (right - left, bottom - top)
    side = np.where(mask, np.maximum(soft, 0.5 + 1e-3), np.minimum(soft, 0.5 - 1e-3)).astype(np.float32)
    inner = np.asarray(cv2.resize(side, size, interpolation=cv2.INTER_LINEAR), np.float32)
    full = np.zeros(shape, np.uint8)
    full[top:bottom, left:right] = inner > 0.5
    if not full.any():
        return _empty_result(*shape)
    full_soft = np.zeros(shape, np.float32)
    full_soft[top:bottom, left:right] = _blend(inner, inner > 0.5, scores)
    scores = {**scores, "area": float(full.mean()), "border": quality.border_touch(full > 0)}
    scores |= quality.gates(full > 0, refined=bool(scores["gate_refined"]))
    return SaliencyResult(mask=full, soft=full_soft, scores=scores)


def _blend(soft: Float32, mask: BoolArray, scores: quality.Scores) -> Float32:
    """Return the soft map: the mask, scaled by the trust in the image, with small steps from the refined map.

    A single threshold over many images then keeps the most trusted masks, as a precision-recall curve rewards.
    """
    trust = min(1.0, (float(scores["agreement"]) + float(scores["contrast"])) / TRUSTED)
    rank = np.rint(8 * soft) / 8  # few levels, because the map is stored as PNG
    return np.where(mask, 0.5 + 0.4 * trust + 0.1 * rank, 0.1 * trust * rank).astype(np.float32)


def _empty_result(height: int, width: int) -> SaliencyResult:
    return SaliencyResult(
        mask=np.zeros((height, width), np.uint8),
        soft=np.zeros((height, width), np.float32),
        scores=quality.no_scores(),
    )
