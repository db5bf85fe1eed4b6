"""From a student's predictions to the next round's targets."""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from fss.collection.schema import HARD_GATES, QUALITY_SCORES
from fss.core.arrays import Float32
from fss.saliency.student.data import shrink_mask
from fss.saliency.two_view import result_of_views


def next_targets(images: npt.NDArray[np.uint8], views: Float32, *, share: float) -> tuple[Float32, Float32]:
    """Follow the pictures' edges, and trust the masks by the same scores and gates as any estimator's.

    Args:
        images: [N,S,S,3] RGB.
        views: [N,2,S/4,S/4] what the student found in each picture and in its mirror image.
        share: of the masks that pass every gate, the best that are trusted.

    Returns:
        Targets [N,S/4,S/4] and weights [N], 0 for what is not trusted.
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
