"""Calibrations of the learner density, alone or joined with a MaskSplit, and what they were fitted on."""

from fss.models.confidence import UNCALIBRATED, Calibration
from fss.models.config import DensityConfig, SegmenterConfig

_BACKBONE = "mobilenet_v2"
_SOURCE = "refined one-shot masks at 384 pixels: 250 of coco200, 120 of the classes val of fewshot, as many absent"
# fmt: off
_CALIBRATIONS = {
    "density": Calibration(
        center=(0.356, 1.786, 0.319, -1.795, -2.533, 1.224, 1.876, 0.528, 0.264, 0.233, 0.314, 0.206, 0.328, 0.382),
        scale=(0.197, 1.58, 0.073, 0.922, 1.977, 1.398, 0.805, 0.123, 0.209, 0.184, 0.183, 0.126, 0.159, 0.133),
        iou_weights=(0.492, 0.0, 0.0, 0.438, 0.332, 0.0, 0.0, 0.285, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        iou_scores=(-2.157, -1.477, -1.132, -0.762, -0.382, -0.083, 0.313, 0.565, 0.788, 0.987, 1.167, 1.358, 1.569,
            1.792, 2.049, 2.428),
        ious=(0.025, 0.041, 0.08, 0.108, 0.108, 0.245, 0.331, 0.485, 0.485, 0.567, 0.567, 0.624, 0.686, 0.686, 0.742,
            0.742),
        presence_weights=(0.206, 0.342, 0.057, -0.13, -0.592, -0.079, -0.064, 0.368, 0.519, 0.511, 0.508, -0.025, 0.364,
            -0.227),
        presence_bias=0.2705,
        threshold=0.1886,
        source=_SOURCE,
    ),
    "density with a prior": Calibration(
        center=(0.516, 3.226, 0.317, -1.694, -2.533, 1.292, 2.589, 0.682, 0.239, 0.233, 0.314, 0.202, 0.328, 0.382),
        scale=(0.266, 2.418, 0.099, 1.0, 1.977, 1.405, 1.206, 0.161, 0.212, 0.184, 0.183, 0.125, 0.159, 0.133),
        iou_weights=(0.482, 0.0, 0.0, 0.363, 0.283, 0.0, 0.0, 0.472, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        iou_scores=(-2.447, -1.915, -1.642, -1.301, -0.939, -0.352, 0.179, 0.471, 0.81, 1.021, 1.183, 1.372, 1.472,
            1.603, 1.766, 1.935),
        ious=(0.03, 0.033, 0.09, 0.098, 0.285, 0.285, 0.457, 0.457, 0.599, 0.684, 0.701, 0.701, 0.768, 0.768, 0.86,
            0.873),
        presence_weights=(-0.239, 0.469, 0.121, -0.26, -0.396, 0.106, 0.15, -0.128, 0.875, 0.393, 0.475, 0.13, 0.366,
            -0.141),
        presence_bias=0.2547,
        threshold=0.2225,
        source=_SOURCE,
    ),
    "joined": Calibration(
        center=(0.6, 5.729, 0.292, -1.692, -2.533, 1.26, 3.789, 0.755, 0.236, 0.233, 0.314, 0.202, 0.328, 0.382),
        scale=(0.294, 4.08, 0.102, 0.94, 1.977, 1.395, 2.029, 0.185, 0.212, 0.184, 0.183, 0.125, 0.159, 0.133),
        iou_weights=(0.566, 0.0, 0.0, 0.309, 0.178, 0.0, 0.0, 0.52, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        iou_scores=(-2.573, -2.065, -1.803, -1.521, -1.011, -0.221, 0.31, 0.607, 0.794, 0.974, 1.114, 1.252, 1.331,
            1.411, 1.509, 1.655),
        ious=(0.031, 0.059, 0.059, 0.114, 0.263, 0.367, 0.391, 0.497, 0.578, 0.66, 0.725, 0.777, 0.777, 0.841, 0.841,
            0.931),
        presence_weights=(-0.168, 0.144, 0.106, -0.134, -0.357, 0.048, 0.071, -0.128, 0.963, 0.397, 0.522, 0.121, 0.346,
            -0.1),
        presence_bias=0.2276,
        threshold=0.2235,
        source=_SOURCE,
    ),
}
# fmt: on
"""Calibrations by what answers, fitted by ``fit_calibration``; the answers to fewshot count twice, so that both
collections weigh the same.

The network that was joined had learned for 320 steps from a student's masks. The thresholds lose a tenth of the objects
of coco200, which is harder than fewshot. tests/benchmarks/README.md has what they reach.
"""


def default_calibration(config: SegmenterConfig, *, prior: bool) -> Calibration:
    """Return the calibration of a segmenter on MobileNetV2 with default settings of density, and none for others.

    A MaskSplit that is joined with density takes it instead of one of its held-out tasks, whose queries and supports
    show one photograph: on other photographs that one is far too sure.

    Args:
        config: settings of the segmenter.
        prior: whether it has a saliency prior.
    """
    if config.backbone != _BACKBONE or config.density != DensityConfig():
        return UNCALIBRATED
    if config.learner == "density":
        return _CALIBRATIONS["density with a prior" if prior else "density"]
    return _CALIBRATIONS["joined"] if config.density_prior and prior else UNCALIBRATED
