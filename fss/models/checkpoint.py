"""Checkpoints of segmenters: a safetensors file and a JSON file. :func:`load_published` reads released checkpoints."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save

from fss.core import config as configurations
from fss.core import storage
from fss.models.config import SegmenterConfig
from fss.models.published import load_published
from fss.models.segmenter import FewShotSegmenter
from fss.models.weights.loading import load_strictly
from fss.models.weights.reading import open_weights

__all__ = ["load_checkpoint", "load_published", "read_description", "save_checkpoint"]

WEIGHTS = "model.safetensors"
"""File of a checkpoint with the weights."""
_DESCRIPTION = "segmenter.json"
_OLD_NAMES = {"weights": "backbone_weights"}  # fss 0.1
_LIMITS = {"width": 4096, "image_size": 8192, "grid": 1024}


def save_checkpoint(
    segmenter: FewShotSegmenter, directory: str | Path, *, extra: Mapping[str, Any] | None = None
) -> Path:
    """Write ``model.safetensors`` (backbone included) and ``segmenter.json``, and return the directory.

    Args:
        segmenter: the network to save.
        directory: a local folder; it is created if it does not exist.
        extra: JSON values to store beside the configuration, such as metrics. :func:`read_description` returns them.
    """
    directory = Path(directory)
    tensors = {key: value.detach().cpu().contiguous() for key, value in segmenter.state_dict().items()}
    description = {"segmenter": configurations.to_dict(segmenter.config), **(extra or {})}
    storage.write_atomically(*storage.resolve(directory / WEIGHTS), save(tensors))
    text = json.dumps(description, indent=2) + "\n"
    storage.write_atomically(*storage.resolve(directory / _DESCRIPTION), text.encode())
    return directory


def load_checkpoint(directory: str | Path) -> FewShotSegmenter:
    """Load the segmenter that :func:`save_checkpoint` wrote, on the CPU and in evaluation mode.

    Raises:
        ValueError: the directory holds no checkpoint, its configuration is invalid, or its weights do not fit.
    """
    config = configurations.from_dict(SegmenterConfig, read_description(directory)["segmenter"])
    _check_size(config, directory)
    tensors = open_weights(Path(directory) / WEIGHTS, safetensors_only=True).content
    segmenter = FewShotSegmenter.from_config(dataclasses.replace(config, backbone_weights=None))
    load_strictly(segmenter, tensors, what=f"the checkpoint {directory}")
    segmenter.config = config
    return segmenter.eval()


def read_description(directory: str | Path) -> dict[str, Any]:
    """Return the JSON of a checkpoint: the configuration under ``segmenter``, and the extra values.

    Raises:
        ValueError: the directory holds no checkpoint.
    """
    directory = Path(directory)
    missing = [name for name in (WEIGHTS, _DESCRIPTION) if not (directory / name).is_file()]
    if missing:
        raise ValueError(f"{directory} is no checkpoint: it has no {' and no '.join(missing)}")
    description: Any = json.loads((directory / _DESCRIPTION).read_text())
    if not isinstance(description, dict) or not isinstance(description.get("segmenter"), dict):
        raise ValueError(f"{directory / _DESCRIPTION} has no object 'segmenter' with a configuration")
    return description | {"segmenter": configurations.renamed(description["segmenter"], _OLD_NAMES)}


def _check_size(config: SegmenterConfig, directory: str | Path) -> None:
    """Refuse a network so large that building it could exhaust the memory."""
    too_large = {name: value for name, limit in _LIMITS.items() if (value := getattr(config, name) or 0) > limit}
    if too_large:
        raise ValueError(f"{directory} asks for {too_large}; the limits are {_LIMITS}")
