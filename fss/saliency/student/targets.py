"""Targets of the next training round, from the student's predictions."""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from fss.collection.schema import HARD_GATES, QUALITY_SCORES
from fss.core.arrays import Float32
from fss.saliency.student.data import shrink_mask
from fss.saliency.two_view import result_of_views


def next_targets(images: npt.NDArray[np.uint8], views: Float32, *, share: float) -> tuple[Float32, Float32]:
    """Refine the predictions along the edges of the images and weight them by the estimators' scores and gates.

    Args:
        images: RGB images, uint8 [N,S,S,3].
        views: predictions for each image and, mirrored back, for its mirror image, [N,2,S/4,S/4] in 0..1.
        share: share of the masks that pass every gate, best first, that gets a weight above 0.

    Returns:
        Targets [N,S/4,S/4] in 0..1 and weights [N] in 0..1.
    """
    size = images.shape[1]
    results = [
        result_of_views(image, pair, working_pixels=size * size, refined=True)
        for image, pair in zip(images, views, strict=True)
    ]
    scores = np.array([[float(result.scores[name]) for name in QUALITY_SCORES] for result in results])
    quality = (rankdata(scores, axis=0).mean(1) - 1) / max(1, len(results) - 1)
    passing = np.array([all(result.scores[gate] for gate in HARD_GATES) for result in results])
    least = np.quantile(quality[passing], 1 - share) if passing.any() else 1.0
    weights = np.where(passing & (quality >= least), quality, 0.0).astype(np.float32)
    return np.stack([shrink_mask(result.mask > 0, size) for result in results]), weights
