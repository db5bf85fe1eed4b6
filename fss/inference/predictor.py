"""Segment photographs by example.

segmenter = fss.load_segmenter("runs/masksplit")
found = segmenter.predict(["cup.jpg"], ["cup-mask.png"], "table.jpg")
found.mask, found.probability  # [H,W] of the query's own size

Many queries share one encoding of the examples:

cups = segmenter.examples(["cup.jpg", "mug.jpg"], ["cup-mask.png", (40, 60, 180, 220)])
masks = [cups.predict(path).mask for path in photographs]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fss.core.arrays import UInt8
from fss.episodes.rendering import normalize_imagenet
from fss.images.resize import image_canvas, mask_canvas
from fss.inference.inputs import MaskLike, PictureLike, read_mask, read_picture
from fss.inference.model_files import local_checkpoint
from fss.models.checkpoint import load_checkpoint
from fss.models.features import Features
from fss.models.segmenter import FewShotSegmenter


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the examples show, in one query, at the query's own size."""

    mask: UInt8
    """uint8 [H,W] in {0,1}: where the object is more likely than not."""
    probability: NDArray[np.float32]
    """float32 [H,W] in 0..1, of the object."""


class Predictor:
    """A segmenter with the picture handling around it; get one from :func:`load_segmenter`."""

    def __init__(self, segmenter: FewShotSegmenter, *, device: str | torch.device = "cpu") -> None:
        self.segmenter = segmenter.to(device).eval()
        self.device = torch.device(device)
        self.size = segmenter.config.image_size

    def predict(
        self,
        support_images: PictureLike | Sequence[PictureLike],
        support_masks: MaskLike | Sequence[MaskLike],
        query: PictureLike,
    ) -> Prediction:
        """Segment in ``query`` what the supports' masks show.

        Args:
            support_images: one picture or K of them, of any kind and size (see ``fss.inference.inputs.PictureLike``).
            support_masks: as many masks, each of its picture's size, or boxes (left, top, right, bottom).
            query: a picture.

        Raises:
            ValueError: no support, pictures and masks that do not pair up, or what is no picture or mask.
        """
        return self.examples(support_images, support_masks).predict(query)

    def examples(
        self, support_images: PictureLike | Sequence[PictureLike], support_masks: MaskLike | Sequence[MaskLike]
    ) -> "Examples":
        """Encode supports once, for many queries; arguments as in :meth:`predict`."""
        images, masks = _listed(support_images, support_masks)
        pictures = [read_picture(image) for image in images]
        pairs = [(rgb, read_mask(mask, rgb.shape)) for rgb, mask in zip(pictures, masks, strict=True)]
        marks = torch.stack([self._mask(mask) for _, mask in pairs]).to(self.device)
        with torch.no_grad():
            return Examples(self, self.segmenter.encode_support(self.canvases(pictures), marks), marks[None], pairs)

    def canvases(self, pictures: Sequence[UInt8]) -> Tensor:
        """Return normalised pictures as the network sees them, float32 [N,3,size,size]."""
        squares = np.stack([image_canvas(rgb, self.size) for rgb in pictures])
        return normalize_imagenet(torch.from_numpy(squares).to(self.device).permute(0, 3, 1, 2).float() / 255)

    def _mask(self, mask: UInt8) -> Tensor:
        small = mask_canvas(mask, self.size)
        if not small.any():
            raise ValueError(
                f"the marked object vanishes at the network's {self.size} pixels a side; crop the picture around it"
            )
        return torch.from_numpy(small.astype(np.float32))


class Examples:
    """Encoded supports of a :class:`Predictor`."""

    def __init__(
        self, predictor: Predictor, features: Features, masks: Tensor, supports: Sequence[tuple[UInt8, UInt8]]
    ) -> None:
        self.predictor = predictor
        self.supports = supports
        """(picture uint8 [H,W,3], mask uint8 [H,W]) as they were understood."""
        self._features, self._masks = features, masks

    @torch.no_grad()
    def predict(self, query: PictureLike) -> Prediction:
        """Segment what the supports show in a picture of any kind and size.

        Raises:
            ValueError: what is no picture.
        """
        rgb = read_picture(query)
        segmenter = self.predictor.segmenter
        encoded = segmenter.encode_query(self.predictor.canvases([rgb]))
        logits = segmenter.joint_logits(encoded, self._features, self._masks, rgb.shape[:2])
        probability = logits.float().softmax(1)[0, 1].cpu().numpy()
        return Prediction(mask=(probability > 0.5).astype(np.uint8), probability=probability)


def load_segmenter(place: str | Path, *, device: str | None = None, tracking: str | None = None) -> Predictor:
    """Load a trained segmenter, ready for pictures of any kind.

    Args:
        place: a folder, an s3:// URI, an MLflow URI or the name of a registered model (see
            ``fss.inference.model_files.local_checkpoint``).
        device: where it runs; None: a GPU where there is one.
        tracking: MLflow's store, for its models.

    Raises:
        ValueError: there is no such model.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with local_checkpoint(place, tracking=tracking) as folder:
        return Predictor(load_checkpoint(folder), device=device)


def _listed(images: object, masks: object) -> tuple[list[PictureLike], list[MaskLike]]:
    """Return K pictures and K masks, where one of each, lists or stacked tensors were given."""
    if not isinstance(images, list | tuple) and getattr(images, "ndim", 3) != 4:
        images, masks = [images], [masks]
    pictures, marks = list(images), list(masks)  # type: ignore[call-overload]
    if not pictures or len(pictures) != len(marks):
        raise ValueError(
            f"got {len(pictures)} support pictures and {len(marks)} masks; give at least one picture, and a mask or "
            "a box for each"
        )
    return pictures, marks
