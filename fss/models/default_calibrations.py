"""Calibrations of the segmenters that need no training, and what they were fitted on."""

from fss.models.confidence import UNCALIBRATED, Calibration
from fss.models.config import DensityConfig, SegmenterConfig

_BACKBONE = "mobilenet_v2"
# fmt: off
_CALIBRATIONS = {
    False: Calibration(
        center=(0.334, 1.693, 0.316, -1.854, -2.934, 1.471, 1.776, 0.518, 0.243, 0.215, 0.299, 0.196, 0.309,
            0.366),
        scale=(0.192, 1.502, 0.069, 0.872, 2.126, 1.502, 0.767, 0.117, 0.204, 0.177, 0.176, 0.124, 0.156,
            0.129),
        iou_weights=(0.495, 0.0, 0.0, 0.427, 0.384, 0.0, 0.0, 0.297, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        iou_scores=(-2.163, -1.589, -1.167, -0.897, -0.604, -0.349, -0.056, 0.297, 0.671, 0.948, 1.208,
            1.47, 1.694, 1.977, 2.26, 2.694),
        ious=(0.011, 0.035, 0.043, 0.043, 0.099, 0.099, 0.161, 0.215, 0.374, 0.389, 0.512, 0.565, 0.592,
            0.653, 0.683, 0.707),
        presence_weights=(0.066, 0.286, -0.078, -0.15, -0.447, 0.032, 0.091, 0.313, 0.57, 0.444, 0.566,
            -0.016, 0.377, -0.311),
        presence_bias=0.2577,
        threshold=0.2054,
        source="one-shot episodes at 384 pixels: 160 of coco200, 120 of the classes val of fewshot, as many absent",
    ),
    True: Calibration(
        center=(0.408, 2.404, 0.305, -1.959, -3.229, 1.636, 2.188, 0.615, 0.208, 0.198, 0.287, 0.187, 0.304,
            0.359),
        scale=(0.269, 2.268, 0.088, 1.15, 2.145, 1.501, 1.139, 0.163, 0.194, 0.168, 0.167, 0.123, 0.153,
            0.127),
        iou_weights=(0.618, 0.0, 0.0, 0.35, 0.317, 0.0, 0.0, 0.449, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        iou_scores=(-2.067, -1.631, -1.382, -1.165, -0.998, -0.831, -0.613, -0.395, -0.129, 0.414, 1.017,
            1.482, 1.813, 2.117, 2.322, 2.588),
        ious=(0.027, 0.036, 0.037, 0.06, 0.06, 0.085, 0.115, 0.158, 0.158, 0.393, 0.395, 0.561, 0.683,
            0.699, 0.814, 0.858),
        presence_weights=(-0.253, 0.432, -0.104, 0.137, -0.237, 0.158, 0.088, -0.371, 0.583, 0.197, 0.439,
            -0.035, 0.621, -0.088),
        presence_bias=0.1247,
        threshold=0.2574,
        source="one-shot episodes at 384 pixels: 250 of coco200, 120 of the classes val of fewshot, as many absent",
    ),
}
# fmt: on
"""Calibration of the learner density by whether there is a saliency prior, fitted by ``fit_calibration``.

The thresholds lose a tenth of the objects of coco200, which is harder. tests/benchmarks/README.md has what they reach.
"""


def default_calibration(config: SegmenterConfig, *, prior: bool) -> Calibration:
    """Return the calibration of the learner density with its default settings on MobileNetV2, and none for others.

    Args:
        config: settings of the segmenter.
        prior: whether it has a saliency prior.
    """
    if config.learner != "density" or config.backbone != _BACKBONE or config.density != DensityConfig():
        return UNCALIBRATED
    return _CALIBRATIONS[prior]
