"""Calibrations of the learner density, alone or joined with a MaskSplit, and what they were fitted on."""

from fss.models.confidence import UNCALIBRATED, Calibration
from fss.models.config import DensityConfig, SegmenterConfig

_BACKBONE = "mobilenet_v2"
_SOURCE = "refined one-shot masks at 384 pixels: 250 of coco200, 120 of the classes val of fewshot, as many absent"
# fmt: off
_CALIBRATIONS = {
    "density": Calibration(
        center=(0.323, 1.554, 0.309, -1.929, -2.931, 1.465, 1.796, 0.52, 0.237, 0.211, 0.293, 0.198, 0.315, 0.371),
        scale=(0.19, 1.419, 0.073, 0.978, 2.103, 1.518, 0.76, 0.119, 0.199, 0.178, 0.174, 0.127, 0.161, 0.134),
        iou_weights=(0.524, 0.0, 0.0, 0.423, 0.308, 0.0, 0.0, 0.276, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        iou_scores=(-1.97, -1.331, -1.102, -0.804, -0.563, -0.263, -0.039, 0.217, 0.559, 0.815, 1.075, 1.282, 1.556,
            1.841, 2.126, 2.603),
        ious=(0.021, 0.034, 0.034, 0.108, 0.114, 0.114, 0.153, 0.288, 0.325, 0.461, 0.484, 0.484, 0.661, 0.679, 0.693,
            0.746),
        presence_weights=(0.152, 0.278, 0.079, -0.103, -0.54, -0.098, -0.071, 0.282, 0.4, 0.468, 0.466, 0.016, 0.442,
            -0.171),
        presence_bias=0.2101,
        threshold=0.2241,
        source=_SOURCE,
    ),
    "density with a prior": Calibration(
        center=(0.456, 2.704, 0.308, -1.838, -2.931, 1.543, 2.36, 0.647, 0.217, 0.211, 0.293, 0.195, 0.315, 0.371),
        scale=(0.267, 2.278, 0.097, 1.081, 2.103, 1.517, 1.144, 0.162, 0.201, 0.178, 0.174, 0.127, 0.161, 0.134),
        iou_weights=(0.506, 0.0, 0.0, 0.408, 0.237, 0.0, 0.0, 0.427, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        iou_scores=(-2.168, -1.635, -1.425, -1.207, -0.962, -0.697, -0.353, 0.087, 0.528, 0.787, 1.116, 1.346, 1.582,
            1.728, 1.904, 2.141),
        ious=(0.024, 0.039, 0.053, 0.099, 0.099, 0.167, 0.254, 0.372, 0.405, 0.424, 0.524, 0.709, 0.735, 0.735, 0.747,
            0.86),
        presence_weights=(-0.211, 0.358, 0.129, -0.195, -0.346, 0.078, 0.075, -0.119, 0.706, 0.356, 0.428, 0.117, 0.467,
            -0.091),
        presence_bias=0.1975,
        threshold=0.2561,
        source=_SOURCE,
    ),
    "joined": Calibration(
        center=(0.531, 4.738, 0.287, -1.82, -2.931, 1.507, 3.328, 0.711, 0.214, 0.211, 0.293, 0.195, 0.315, 0.371),
        scale=(0.302, 4.004, 0.099, 1.018, 2.103, 1.511, 1.963, 0.191, 0.2, 0.178, 0.174, 0.127, 0.161, 0.134),
        iou_weights=(0.553, 0.0, 0.0, 0.371, 0.156, 0.0, 0.0, 0.459, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        iou_scores=(-2.25, -1.725, -1.518, -1.326, -1.101, -0.811, -0.28, 0.225, 0.657, 0.869, 1.078, 1.282, 1.446,
            1.554, 1.661, 1.829),
        ious=(0.024, 0.058, 0.058, 0.071, 0.111, 0.233, 0.238, 0.353, 0.402, 0.451, 0.508, 0.69, 0.765, 0.765, 0.791,
            0.901),
        presence_weights=(-0.12, 0.085, 0.114, -0.083, -0.326, 0.012, -0.007, -0.094, 0.775, 0.348, 0.451, 0.136, 0.438,
            -0.061),
        presence_bias=0.1823,
        threshold=0.2493,
        source=_SOURCE,
    ),
}
# fmt: on
"""Calibrations by what answers, fitted by ``fit_calibration``.

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
