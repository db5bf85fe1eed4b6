"""Checkpoints of segmenters: a safetensors file and a JSON file. :func:`load_published` reads released checkpoints."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save

from fss.core import config as configurations
from fss.core import storage
from fss.core.json_values import parse_object
from fss.models.confidence import UNCALIBRATED, Calibration, parse_calibration
from fss.models.config import SegmenterConfig
from fss.models.published import load_published
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent, student_config
from fss.models.segmenter import FewShotSegmenter
from fss.models.weights.loading import build_and_load
from fss.models.weights.pair import (
    WEIGHTS,
    WEIGHTS_SHA256,
    check_description,
    check_pair,
    encode_description,
    read_pair,
    weights_name,
    write_pair,
)

__all__ = [
    "WEIGHTS",
    "load_checkpoint",
    "load_published",
    "read_description",
    "save_checkpoint",
    "weights_file",
    "write_calibration",
]

PRIOR = "prior"
"""Key of the saliency prior's configuration in the JSON of a checkpoint."""
CALIBRATION = "calibration"
"""Key of the calibration in the JSON of a checkpoint."""
DESCRIPTION = "segmenter.json"
"""File of a checkpoint with its settings and records."""
_OLD_NAMES = {"weights": "backbone_weights"}  # fss 0.1
_LIMITS = {"width": 4096, "image_size": 8192, "grid": 1024}


def save_checkpoint(
    segmenter: FewShotSegmenter, directory: str | Path, *, extra: Mapping[str, Any] | None = None
) -> Path:
    """Write ``model.safetensors`` (backbone and prior included) and ``segmenter.json``, and return the directory.

    Args:
        segmenter: the network to save.
        directory: a local folder; it is created if it does not exist.
        extra: JSON values to store beside the configuration, such as metrics. :func:`read_description` returns them.

    Raises:
        ValueError: the network is prepared for inference, so that the weights of its backbone are gone.
    """
    directory = Path(directory)
    tensors = {key: value.detach().cpu().contiguous() for key, value in segmenter.state_dict().items()}
    description = {"segmenter": configurations.to_dict(segmenter.config)}
    if segmenter.prior is not None:
        description[PRIOR] = configurations.to_dict(segmenter.prior.config)
    if segmenter.calibration != UNCALIBRATED:
        description[CALIBRATION] = configurations.to_dict(segmenter.calibration)
    description |= dict(extra or {})
    write_pair(str(directory), DESCRIPTION, save(tensors), description)
    return directory


def load_checkpoint(directory: str | Path) -> FewShotSegmenter:
    """Load the segmenter that :func:`save_checkpoint` wrote, on the CPU and in evaluation mode.

    Raises:
        ValueError: the directory holds no checkpoint, its configuration is invalid, or its weights do not fit.
    """
    description, weights = read_pair(str(directory), lambda: read_description(directory))
    config = configurations.from_dict(SegmenterConfig, description["segmenter"])
    _check_size(config, directory)
    without_files = dataclasses.replace(config, backbone_weights=None, saliency_prior=None)

    def build() -> FewShotSegmenter:
        prior = _build_prior(description[PRIOR], directory) if PRIOR in description else None
        return FewShotSegmenter.from_config(without_files, prior=prior)

    segmenter = build_and_load(build, weights.content, what=f"the checkpoint {directory}")
    segmenter.config = config
    if CALIBRATION in description:
        segmenter.calibration = parse_calibration(description[CALIBRATION], str(Path(directory) / DESCRIPTION))
    check_pair(description, weights.sha256, str(directory))  # last, because the other errors say more
    return segmenter.eval()


def weights_file(directory: str | Path) -> Path:
    """Return the file of a checkpoint with the weights.

    Raises:
        ValueError: the directory holds no checkpoint.
    """
    return Path(directory) / weights_name(read_description(directory), str(directory))


def read_description(directory: str | Path) -> dict[str, Any]:
    """Return the JSON of a checkpoint: ``segmenter``, ``prior``, ``calibration`` and the extra values.

    Raises:
        ValueError: the directory holds no checkpoint.
    """
    directory = Path(directory)
    described = (directory / DESCRIPTION).is_file()
    values = (directory / DESCRIPTION).read_bytes() if described else b"{}"
    description = parse_object(values, str(directory / DESCRIPTION))
    weights = weights_name(description, str(directory / DESCRIPTION))
    if missing := [name for name in (weights, DESCRIPTION) if not (directory / name).is_file()]:
        raise ValueError(f"{directory} is no checkpoint: it has no {' and no '.join(missing)}")
    if not isinstance(description.get("segmenter"), dict):
        raise ValueError(f"{directory / DESCRIPTION} has no object 'segmenter' with a configuration")
    return description | {"segmenter": configurations.renamed(description["segmenter"], _OLD_NAMES)}


def write_calibration(uri: str, calibration: Calibration) -> None:
    """Store a calibration in the JSON of a checkpoint, whose folder may be local or an s3:// URI."""
    path = storage.join(uri, DESCRIPTION)
    values = parse_object(storage.read_bytes(path), path)
    check_description(values, uri)
    values[CALIBRATION] = configurations.to_dict(calibration)
    storage.write_atomically(*storage.resolve(path), encode_description(values, values.get(WEIGHTS_SHA256)))


def _build_prior(values: Any, directory: str | Path) -> SaliencyStudent:
    """Build the saliency network of a checkpoint, whose weights are with those of the segmenter."""
    config = student_config(values, str(Path(directory) / DESCRIPTION))
    _check_size(config, directory)
    return SaliencyStudent(dataclasses.replace(config, backbone_weights=None))


def _check_size(config: SegmenterConfig | StudentConfig, directory: str | Path) -> None:
    """Refuse a network so large that building it could exhaust the memory."""
    too_large = {name: value for name, limit in _LIMITS.items() if (value := getattr(config, name, None) or 0) > limit}
    if too_large:
        raise ValueError(f"{directory} asks for {too_large}; the limits are {_LIMITS}")
