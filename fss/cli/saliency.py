"""Segment the salient object of every photograph, without examples.

    fss saliency ~/photos --output masks
    fss saliency ~/photos --output masks --student students/<name>/student.safetensors

The command writes a mask per picture (PNG, 255 on the object), overlays, and masks.csv with quality scores. For a
million photographs, create a collection instead, with pipelines.ingest and then pipelines.pseudomask.
"""

from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Literal

import tyro

from fss.core.config import settings
from fss.core.exit_codes import PARTIAL, SUCCESS
from fss.saliency.config import SaliencyConfig, StudentSettings

if TYPE_CHECKING:
    from fss.cli._make_masks import Picture
    from fss.core.arrays import UInt8


@settings
class Config:
    """The arguments of ``fss saliency``."""

    photographs: tyro.conf.Positional[tuple[str, ...]]
    """Photographs to mask: folders (at any depth), pictures, s3:// URIs."""
    output: str
    """Folder or s3:// URI for the masks."""
    overlays: bool = True
    """Write the masks over the pictures too, to look at."""
    soft: bool = False
    """Write the soft maps too (PNG, 255 is sure)."""
    student: str | None = None
    """File of a trained student. None: the classical cues, which need no weights."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device of a student; auto takes a GPU if there is one. The classical cues run on the CPU."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """Settings of the classical cues."""


def run(config: Config) -> int:
    """Segment the pictures and return the exit code.

    Raises:
        ValueError: there is no picture, the student does not exist, or it is given beside settings of the cues.
    """
    from fss.cli._make_masks import Segmentation, find_pictures, make_masks
    from fss.saliency.estimators import create_estimator

    if config.student is not None and config.saliency != SaliencyConfig():
        raise ValueError(
            "--saliency.* are settings of the classical cues, but --student is given; leave one of them out"
        )
    estimator_config = config.saliency if config.student is None else StudentSettings(path=config.student)
    pictures = find_pictures(config.photographs, config.output, soft=config.soft)
    estimator = create_estimator(estimator_config, device=_device(config))

    def segment(batch: "Sequence[tuple[Picture, UInt8]]") -> Iterator[Segmentation]:
        for picture, rgb in batch:
            result = estimator.estimate(rgb, image_id=picture.name)
            scores = {name: round(float(value), 4) for name, value in result.scores.items()}
            yield Segmentation(mask=result.mask, soft=result.soft, scores=scores)

    unusable = make_masks(
        pictures,
        segment,
        config.output,
        overlays=config.overlays,
        soft=config.soft,
        what="finding salient objects",
        advice=""
        if config.student
        else "Where the agreement in masks.csv is low (0..1), the mask is often wrong: the "
        "five cues that it is the mean of differ there",
    )
    return PARTIAL if unusable else SUCCESS


def _device(config: Config) -> str:
    """Return the device that ``auto`` stands for."""
    if config.device != "auto":
        return config.device
    if config.student is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
