"""Mixing of the pool's pictures in a step: CutMix and ClassMix.

CutMix (Yun et al., ICCV 2019; French et al., BMVC 2020) replaces a box of a picture by the same box of another one.
ClassMix (Olsson et al., WACV 2021) replaces the pixels at which the teacher finds one of half of the classes of the
other picture. The student's targets are replaced in the same way.
"""

import numpy as np
import torch
from torch import Tensor

from fss.core.arrays import IGNORE, Float32

CLASSES = 255
DRAWS = 4 + CLASSES
"""Random numbers per picture: whether it is mixed, the box's aspect, top and left, and the order of the classes."""


def draw_mix(rng: np.random.Generator, probability: float) -> Float32:
    """Draw the mixing of a picture, float32 [DRAWS]; the first number is 1 if the picture is mixed, else 0."""
    draws = rng.random(DRAWS, dtype=np.float32)
    draws[0] = draws[0] < probability
    return draws


def partner_offsets(pictures: int, group: int) -> Tensor:
    """Return how far the partner of each of ``pictures`` is, long [B]: the partner is the next one of its group."""
    numbers = torch.arange(pictures)
    return (numbers % group + 1) % group - numbers % group


def of_partners(values: Tensor, offsets: Tensor) -> Tensor:
    """Return the values [B,...] of each picture's partner."""
    return values[torch.arange(len(offsets), device=offsets.device) + offsets]


def cutmix_area(draws: Tensor, height: int, width: int) -> Tensor:
    """Return the box of each picture that its partner replaces, bool [B,H,W]: half of its area, as in French et al.

    Args:
        draws: float [B,DRAWS] of :func:`draw_mix`.
        height: height of the pictures.
        width: width of the pictures.
    """
    applied, aspect, top, left = draws[:, :4].double().unbind(1)
    share = 0.5**aspect  # of the height; the share of the width is 0.5 / share
    sides = [(height * share).round(), (width * 0.5 / share).round()]
    ranges = []
    for start, side, length in zip((top, left), sides, (height, width), strict=True):
        first = (start * (length - side + 1)).floor()
        positions = torch.arange(length)
        ranges.append((positions >= first[:, None]) & (positions < (first + side)[:, None]))
    rows, columns = ranges
    return rows[:, :, None] & columns[:, None, :] & (applied > 0)[:, None, None]


def classmix_area(draws: Tensor, labels: Tensor) -> Tensor:
    """Return the pixels of each picture that its partner replaces, bool [B,H,W].

    Args:
        draws: float [B,DRAWS] of :func:`draw_mix`.
        labels: uint8 [B,H,W], the teacher's classes of each picture's partner, 255 ignored.
    """
    area = torch.zeros_like(labels, dtype=torch.bool)
    for number, each in enumerate(labels):
        classes = each.unique()
        classes = classes[classes != IGNORE].long()
        if draws[number, 0] > 0 and len(classes):
            order = draws[number, 4:].to(classes.device)[classes].argsort()
            area[number] = torch.isin(each, classes[order[: (len(classes) + 1) // 2]].to(each.dtype))
    return area


def paste(values: Tensor, area: Tensor, offsets: Tensor) -> Tensor:
    """Return values [B,H,W] or [B,C,H,W] with those of the partners in the areas, bool [B,H,W]."""
    return torch.where(area if values.ndim == 3 else area[:, None], of_partners(values, offsets), values)
