"""Find the salient object of every photograph, without any example.

    fss saliency ~/photos --output masks
    fss saliency ~/photos --output masks --student students/<name>/student.safetensors

Writes a mask per picture (PNG, 255 on the object), overlays, and masks.csv with the scores that say how far each can
be trusted. For a million photographs make a collection: pipelines.ingest, then pipelines.pseudomask.
"""

from dataclasses import dataclass, field

import tyro

from fss.cli._make_masks import Answer, Found, find_pictures, make_masks
from fss.core.arrays import UInt8
from fss.core.exit_codes import PARTIAL, SUCCESS
from fss.saliency import SaliencyConfig
from fss.saliency.config import StudentSettings
from fss.saliency.estimators import create_estimator


@dataclass(frozen=True, kw_only=True)
class Config:
    """What ``fss saliency`` is asked."""

    photographs: tyro.conf.Positional[tuple[str, ...]]
    """Folders (at any depth), pictures, s3:// URIs."""
    output: str
    """Folder or s3:// URI for the masks."""
    overlays: bool = True
    """Write the masks over the pictures too, to look at."""
    soft: bool = False
    """Write the soft maps too (PNG, 255 is sure)."""
    student: str | None = None
    """A trained student's file; None: the classical cues, which need no weights."""
    device: str = "cpu"
    """Where a student runs: cpu or cuda."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """The classical estimator."""


def run(config: Config) -> int:
    """Make the masks.

    Raises:
        ValueError: no picture, or no such student.
    """
    settings = config.saliency if config.student is None else StudentSettings(path=config.student)
    found = find_pictures(config.photographs, config.output)
    estimator = create_estimator(settings, device=config.device)

    def answer(rgb: UInt8, picture: Found) -> Answer:
        made = estimator.estimate(rgb, image_id=picture.name)
        said = {name: round(float(value), 4) for name, value in made.scores.items()}
        return Answer(mask=made.mask, soft=made.soft, said=said)

    bad = make_masks(
        found, answer, config.output, overlays=config.overlays, soft=config.soft, what="finding salient objects"
    )
    return PARTIAL if bad else SUCCESS
