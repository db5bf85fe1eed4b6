"""Segment a photograph by example: pictures and masks of any size in, a mask of the query's size out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fss.episodes.canvas import image_canvas, mask_canvas
from fss.episodes.render import normalise
from fss.models.checkpoint import load_checkpoint
from fss.models.fusion import Fusion
from fss.models.segmenter import FewShotSegmenter

Pixels = NDArray[np.uint8]


class Predictor:
    """A segmenter with the picture handling around it.

    Example:
        >>> predictor = Predictor.load("runs/masksplit/model")
        >>> mask = predictor.predict(query_rgb, [(support_rgb, support_mask)])
    """

    def __init__(self, segmenter: FewShotSegmenter, *, device: str | torch.device = "cpu") -> None:
        self.segmenter = segmenter.to(device).eval()
        self.device = torch.device(device)
        self.size = segmenter.config.image_size

    @classmethod
    def load(cls, checkpoint: str | Path, *, device: str | torch.device = "cpu") -> "Predictor":
        """Load a checkpoint folder (see ``fss.models.checkpoint``)."""
        return cls(load_checkpoint(checkpoint), device=device)

    def predict(self, query: Pixels, supports: Sequence[tuple[Pixels, Pixels]], *, fusion: Fusion = "joint") -> Pixels:
        """Return the mask of what the supports show, uint8 {0,1} of the query's size.

        Args:
            query: uint8 [H,W,3] RGB.
            supports: (picture uint8 [H,W,3], mask [H,W]) pairs, any sizes. A mask marks the object with 1 or, where it
                holds no 1, with 255; everything else is background.
            fusion: how several supports become one answer.

        Raises:
            ValueError: no support, a mask of another size than its picture, or a mask that marks nothing.
        """
        if not supports:
            raise ValueError("few-shot segmentation needs at least one support picture with its mask, got none")
        pictures = torch.stack([self._image(query), *[self._image(rgb) for rgb, _ in supports]])
        masks = torch.stack([self._mask(*pair) for pair in supports]).to(self.device)
        pictures = normalise(pictures.to(self.device).float() / 255)
        mask = self.segmenter.predict(pictures[:1], pictures[None, 1:], masks[None], fusion)
        square = mask[0].to(torch.uint8).cpu().numpy()
        return _unsquash(square, query.shape[0], query.shape[1])

    def _image(self, rgb: Pixels) -> Tensor:
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(f"a picture is uint8 [H,W,3] RGB, got {rgb.dtype} {list(rgb.shape)}")
        return torch.from_numpy(image_canvas(rgb, self.size).copy()).permute(2, 0, 1)

    def _mask(self, rgb: Pixels, mask: Pixels) -> Tensor:
        if mask.shape != rgb.shape[:2]:
            raise ValueError(f"a support's mask has its picture's size {list(rgb.shape[:2])}, got {list(mask.shape)}")
        marked = mask == 1 if (mask == 1).any() else mask == 255
        if not marked.any():
            raise ValueError("a support's mask marks nothing: set the object's pixels to 1 (or 255)")
        return torch.from_numpy(mask_canvas(marked.astype(np.uint8), self.size).copy()).float()


def _unsquash(mask: Pixels, height: int, width: int) -> Pixels:
    import cv2

    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
