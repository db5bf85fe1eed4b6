"""Weights and inputs made by rule, so that a network can be checked without anyone's weight file.

The rule draws from numpy's legacy generator over all float entries of the published state dict in sorted key order; a
backbone's unused classifier takes part in the walk.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

GOLDEN = Path(os.environ.get("FSS_SHARED_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))


def golden_files() -> list[Path]:
    return sorted(GOLDEN.glob("*.json"))


def read_golden(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def weights_by_rule(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    rs = np.random.RandomState(seed)
    state = {}
    for key in sorted(shapes):
        shape = tuple(shapes[key])
        if key.endswith("running_mean"):
            value = np.zeros(shape)
        elif key.endswith("running_var"):
            value = np.ones(shape)
        elif len(shape) == 1 and key.endswith("weight"):
            value = 1 + 0.1 * rs.randn(*shape)
        elif len(shape) <= 1:
            value = 0.1 * np.asarray(rs.randn(*shape))
        else:
            value = rs.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))
        state[key] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return state


def backbone_shapes(name: str) -> dict[str, tuple[int, ...]]:
    network = getattr(torchvision.models, name)(weights=None)
    floats = {k: v for k, v in network.state_dict().items() if v.is_floating_point()}
    return {f"backbone.{key}": tuple(value.shape) for key, value in floats.items()}


def inputs_by_rule(seed: int, shots: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a query ``[1,3,S,S]``, supports ``[1,K,3,S,S]`` and masks ``[1,K,S,S]``."""

    def image(image_seed: int, count: int) -> Tensor:
        coarse = np.random.RandomState(image_seed).randn(count, 3, size // 16 + 1, size // 16 + 1)
        return F.interpolate(
            torch.from_numpy(coarse.astype(np.float32)), (size, size), mode="bilinear", align_corners=True
        )

    grid = np.arange(size) / size
    masks = []
    for i in range(shots):
        radius, cx, cy = 0.30 - 0.03 * i, 0.45 + 0.04 * i, 0.55 - 0.03 * i
        masks.append((grid[None, :] - cx) ** 2 + (grid[:, None] - cy) ** 2 < radius**2)
    return image(seed + 100, 1), image(seed + 200, shots)[None], torch.from_numpy(np.stack(masks)[None]).float()


def published_state(golden: dict[str, Any]) -> dict[str, Tensor]:
    shapes = {key: tuple(shape) for key, shape in golden["keys"]}
    if golden["arch"] != "masksplit":
        shapes |= backbone_shapes(golden["backbone"])
    return weights_by_rule(shapes, golden["seed"])
