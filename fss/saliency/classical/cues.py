"""The five saliency cues of an image and their weighted mean."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fss.core.arrays import Float32
from fss.saliency.classical import graph_cues
from fss.saliency.classical.graph_cues import min_max_scale
from fss.saliency.classical.minimum_barrier import mb_plus
from fss.saliency.classical.superpixels import segment

# RBD is flat within the parts of an object and GS fails on objects at the border, so both have less weight.
# tests/benchmarks/bench_saliency.py measured the effect.
WEIGHTS = {"rbd": 0.5, "manifold_ranking": 1.5, "markov_chain": 1.5, "geodesic": 0.5, "mb_plus": 1.5}
CENTRE_SPREAD = 0.4  # standard deviation of the centre prior, as a share of the image's side
NOTICEABLE = 2.3  # just noticeable CIELAB distance; an image without a larger one is flat


@dataclass(frozen=True, kw_only=True)
class Cues:
    """Cue values of n superpixels, and their mean as a map."""

    per_cue: list[Float32]
    """Values of each of the five cues, [n] in 0..1."""
    area: npt.NDArray[np.float64]
    """Number of pixels per superpixel, [n]."""
    mean: Float32
    """Weighted mean of the cues times a centre prior, [n] in 0..1; all zeros in a flat image."""
    map: Float32
    """The mean as a map, [H,W]."""


def compute_cues(lab: Float32, *, segments: int, iterations: int, compactness: float) -> Cues:
    """Compute the five cues of a CIELAB image, float32 [H,W,3].

    Args:
        lab: the image.
        segments: number of superpixels to aim for.
        iterations: k-means passes of the superpixels.
        compactness: weight of position against colour in the superpixels.
    """
    height, width = lab.shape[:2]
    pixels = segment(lab, segments=segments, iterations=iterations, compactness=compactness)
    graph = graph_cues.build_graph(pixels)
    area = np.bincount(pixels.labels.ravel(), minlength=pixels.count).astype(np.float64)
    # The barrier cue is averaged over superpixels anyway, so half the side is enough.
    half = (max(8, width // 2), max(8, height // 2))
    small = np.asarray(cv2.resize(lab, half, interpolation=cv2.INTER_AREA), np.float32)
    barrier = cv2.resize(mb_plus(small), (width, height), interpolation=cv2.INTER_LINEAR)
    cues = {
        "rbd": graph_cues.rbd(pixels, graph),
        "manifold_ranking": graph_cues.manifold_ranking(pixels, graph),
        "markov_chain": graph_cues.markov_chain(pixels, graph),
        "geodesic": graph_cues.geodesic(pixels, graph),
        "mb_plus": (np.bincount(pixels.labels.ravel(), barrier.ravel(), pixels.count) / area).astype(np.float32),
    }
    offset = ((pixels.position - 0.5) ** 2).sum(1)
    centre = 0.5 + 0.5 * np.exp(-offset / (2 * CENTRE_SPREAD**2))
    total = sum((WEIGHTS[name] * values for name, values in cues.items()), np.zeros(pixels.count, np.float32))
    flat = float(pixels.colour_distance.max()) < NOTICEABLE
    mean = (
        np.zeros(pixels.count, np.float32)
        if flat
        else min_max_scale((min_max_scale(total) * centre).astype(np.float32))
    )
    return Cues(per_cue=list(cues.values()), area=area, mean=mean, map=pixels.paint(mean))
