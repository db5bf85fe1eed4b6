"""Our own checkpoints: safetensors plus a JSON. The published ones are read by :func:`load_published`."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fss.core import config as configurations
from fss.models.backbones.base import load_strictly
from fss.models.config import SegmenterConfig
from fss.models.published import load_published
from fss.models.segmenter import FewShotSegmenter

__all__ = ["load_checkpoint", "load_published", "read_description", "save_checkpoint"]

_WEIGHTS, _DESCRIPTION = "model.safetensors", "segmenter.json"
_OLD_NAMES = {"weights": "backbone_weights"}  # fss 0.1
_MOST = {"width": 4096, "image_size": 8192, "grid": 1024}


def save_checkpoint(
    segmenter: FewShotSegmenter, directory: str | Path, *, extra: Mapping[str, Any] | None = None
) -> Path:
    """Write ``model.safetensors`` (backbone included) and ``segmenter.json`` into ``directory``, and return it.

    Args:
        segmenter: the network to save.
        directory: made where it does not exist.
        extra: plain values to keep beside the configuration, such as metrics; read them with :func:`read_description`.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in segmenter.state_dict().items()}
    description = {"segmenter": configurations.to_dict(segmenter.config), **(extra or {})}
    _replace(directory / _WEIGHTS, lambda path: save_file(tensors, path))
    _replace(directory / _DESCRIPTION, lambda path: path.write_text(json.dumps(description, indent=2) + "\n"))
    return directory


def load_checkpoint(directory: str | Path) -> FewShotSegmenter:
    """Rebuild the segmenter that :func:`save_checkpoint` wrote, on the CPU and in evaluation mode.

    Raises:
        ValueError: a directory without a checkpoint, or weights that do not fit the configuration beside them.
    """
    config = configurations.from_dict(SegmenterConfig, read_description(directory)["segmenter"])
    _check_size(config, directory)
    try:
        tensors = load_file(Path(directory) / _WEIGHTS)
    except SafetensorError as error:
        raise ValueError(
            f"{Path(directory) / _WEIGHTS} holds no safetensors ({error}); nothing else is read"
        ) from error
    segmenter = FewShotSegmenter.from_config(dataclasses.replace(config, backbone_weights=None))
    load_strictly(segmenter, tensors, what=f"the checkpoint {directory}")
    segmenter.config = config
    return segmenter.eval()


def read_description(directory: str | Path) -> dict[str, Any]:
    """Read a checkpoint's JSON: ``segmenter``, its configuration, and the extra values it was saved with."""
    directory = Path(directory)
    missing = [name for name in (_WEIGHTS, _DESCRIPTION) if not (directory / name).is_file()]
    if missing:
        raise ValueError(f"{directory} is no checkpoint: it has no {' and no '.join(missing)}")
    description: Any = json.loads((directory / _DESCRIPTION).read_text())
    if not isinstance(description, dict) or not isinstance(description.get("segmenter"), dict):
        raise ValueError(f"{directory / _DESCRIPTION} describes no segmenter")
    return description | {"segmenter": configurations.renamed(description["segmenter"], _OLD_NAMES)}


def _check_size(config: SegmenterConfig, directory: str | Path) -> None:
    """Refuse a description that would take all memory before its weights are even compared."""
    wrong = {name: value for name, most in _MOST.items() if (value := getattr(config, name) or 0) > most}
    if wrong:
        raise ValueError(f"{directory} asks for {wrong}; at most {_MOST} are loaded")


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write to a temporary name and move it into place, so that no half file counts as whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
