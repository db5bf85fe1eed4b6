"""Segment photographs by example.

    fss predict --model runs/masksplit --support cup.jpg:cup.png --query ~/photos --output masks
    fss predict --model birds@best --support a.jpg:a.png b.jpg:40,60,180,220 --query s3://bucket/new --output masks

Several examples make one answer. Writes a mask per picture (PNG, 255 on the object), overlays, masks.csv, and
examples.jpg, which shows how the examples were understood.
"""

import re
from dataclasses import dataclass

import tyro

from fss.cli._make_masks import Answer, Found, find_pictures, make_masks, write
from fss.core.arrays import UInt8
from fss.core.exit_codes import PARTIAL, SUCCESS

_BOX = re.compile(r"-?\d+(?:\.\d+)?(?:,-?\d+(?:\.\d+)?){3}")
_PAIR = re.compile(r"(?P<picture>.+?):(?P<mask>(?:s3|file)://.+|[^:]+)")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What ``fss predict`` is asked."""

    model: str
    """A trained segmenter: its folder (runs/masksplit), an s3:// or MLflow URI, or a registered model's name."""
    output: str
    """Folder or s3:// URI for the masks."""
    support: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Examples, PICTURE:MASK or PICTURE:LEFT,TOP,RIGHT,BOTTOM (a box, in pixels)."""
    query: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """What to segment: folders (at any depth), pictures, s3:// URIs."""
    overlays: bool = True
    """Write the masks over the pictures too, to look at."""
    probabilities: bool = False
    """Write each pixel's probability too (PNG, 255 is 1)."""
    device: str | None = None
    """cpu or cuda; None: a GPU where there is one."""
    tracking: str | None = None
    """MLflow's store, for its models; None: MLFLOW_TRACKING_URI, or the one in this directory."""


def run(config: Config) -> int:
    """Make the masks.

    Raises:
        ValueError: no such model, an example that is none, or no picture.
    """
    from fss.inference.predictor import load_segmenter
    from fss.visualize import contact_sheet, jpeg_bytes

    pairs = [parse_support(text) for texts in config.support for text in texts]
    places = [place for places in config.query for place in places]
    if not pairs or not places:
        raise ValueError("give at least one example (--support PICTURE:MASK) and something to segment (--query FOLDER)")
    found = find_pictures(places, config.output)
    predictor = load_segmenter(config.model, device=config.device, tracking=config.tracking)
    examples = predictor.examples([picture for picture, _ in pairs], [mask for _, mask in pairs])
    tiles = [(rgb, mask, "") for rgb, mask in examples.supports]
    write(config.output, "examples.jpg", jpeg_bytes(contact_sheet(tiles, side=320, title="examples and their masks")))

    def answer(rgb: UInt8, _: Found) -> Answer:
        made = examples.predict(rgb)
        sure = round(float(abs(made.probability - 0.5).mean() * 2), 4)
        return Answer(mask=made.mask, soft=made.probability, said={"sureness": sure})

    bad = make_masks(
        found, answer, config.output, overlays=config.overlays, soft=config.probabilities, what="segmenting by example"
    )
    return PARTIAL if bad else SUCCESS


def parse_support(text: str) -> tuple[str, str | tuple[float, ...]]:
    """Split PICTURE:MASK or PICTURE:LEFT,TOP,RIGHT,BOTTOM.

    Raises:
        ValueError: neither.
    """
    pair = _PAIR.fullmatch(text)
    if pair is None:
        raise ValueError(f"an example is PICTURE:MASK or PICTURE:LEFT,TOP,RIGHT,BOTTOM, got {text!r}")
    mask = pair["mask"]
    return pair["picture"], tuple(float(number) for number in mask.split(",")) if _BOX.fullmatch(mask) else mask
