"""Whether a program answers as the segmenter that it was made from, on inputs where programs are known to differ."""

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fss.episodes.rendering import canvas_batch
from fss.images.resize import image_canvas, mask_canvas
from fss.synthetic.picture import render_sample_image

CHANGED = 1e-4
"""Share of the decisions of an episode that a program in float32 may change."""

Episode = tuple[Tensor, Tensor, Tensor]
"""Query ``[B,3,H,W]``, supports ``[B,K,3,H,W]`` and masks ``[B,K,H,W]``."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far the answers of a program are from those of its segmenter, in the episode where they differ most."""

    logits: float
    """Largest difference of a logit, as a share of the largest logit."""
    decisions: float
    """Share of the pixels whose decision differs."""

    def within(self, *, logits: float, decisions: float) -> bool:
        """Return whether both are within what is allowed; a difference that is no number is not."""
        return self.logits <= logits and self.decisions <= decisions

    def __str__(self) -> str:
        return f"{self.logits:.1e} of the largest logit, and {self.decisions:.1e} of its decisions"


def compare(pairs: Iterable[tuple[Tensor, Tensor]]) -> Parity:
    """Compare pairs of logits ``[B,2,H,W]``, those of the program and the expected ones."""
    logits = decisions = 0.0
    for answer, expected in pairs:
        difference = float((answer - expected).abs().max() / expected.abs().max())
        logits = max(logits, difference) if difference == difference else difference
        decisions = max(decisions, float((answer.argmax(1) != expected.argmax(1)).float().mean()))
    return Parity(logits=logits, decisions=decisions)


def check_episodes(batch: int, shots: int, height: int, width: int) -> list[Episode]:
    """Return episodes with masks of several kinds, because a masked network is sensitive to its mask's outline.

    They are noise with half of the picture, a disc, a thin line and a small object, and painted pictures with the masks
    of their objects.
    """
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(batch, 3, height, width, generator=generator)
    supports = torch.randn(batch, shots, 3, height, width, generator=generator)
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    disc, line = (y - 0.1) ** 2 + (x + 0.1) ** 2 < 0.36, (y - x).abs() < 4 / min(height, width)
    shapes = x < 0, disc, line, (y + 0.4) ** 2 + (x - 0.2) ** 2 < 0.01
    episodes = [(query, supports, shape.float().expand(batch, shots, -1, -1).contiguous()) for shape in shapes]
    return [*episodes, _painted(batch, shots, height, width)]


def _painted(batch: int, shots: int, height: int, width: int) -> Episode:
    samples = [render_sample_image(index, 0, "labelled") for index in range(1 + shots)]
    side = max(height, width)
    canvases = [image_canvas(np.asarray(Image.open(io.BytesIO(each.jpeg))), side) for each in samples]
    pictures = _fit(canvas_batch(canvases), height, width)
    planes = [mask_canvas((each.mask > 0).astype(np.uint8), side) for each in samples[1:]]
    masks = _fit(torch.from_numpy(np.stack(planes)).float()[None], height, width).round()
    supports = pictures[1:].expand(batch, -1, -1, -1, -1).contiguous()
    return pictures[:1].expand(batch, -1, -1, -1).contiguous(), supports, masks.expand(batch, -1, -1, -1).contiguous()


def _fit(planes: Tensor, *size: int) -> Tensor:
    return planes if tuple(planes.shape[-2:]) == size else F.interpolate(planes, size)
