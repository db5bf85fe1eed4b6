"""Segment photographs by example.

    fss predict --model runs/masksplit --support cup.jpg:cup.png --query ~/photos --output masks
    fss predict --model birds@best --support a.jpg:a.png b.jpg:40,60,180,220 --query s3://bucket/new --output masks

All examples together define the object. The command writes a mask per picture (PNG, 255 on the object), overlays,
masks.csv, and examples.jpg, which shows the examples with their masks.
"""

import re
from typing import TYPE_CHECKING, Literal

import tyro

from fss.core.config import settings
from fss.core.exit_codes import PARTIAL, SUCCESS

if TYPE_CHECKING:
    from fss.cli._make_masks import Picture
    from fss.core.arrays import UInt8

_BOX = re.compile(r"-?\d+(?:\.\d+)?(?:,-?\d+(?:\.\d+)?){3}")
_PAIR = re.compile(r"(?P<picture>.+?):(?P<mask>(?:s3|file)://.+|[^:]+)")


@settings
class Config:
    """The arguments of ``fss predict``."""

    model: str
    """Trained segmenter: its folder (runs/masksplit), an s3:// or MLflow URI, or a registered model's name."""
    output: str
    """Folder or s3:// URI for the masks."""
    support: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Examples, PICTURE:MASK or PICTURE:LEFT,TOP,RIGHT,BOTTOM (a box, in pixels)."""
    query: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Pictures to segment: folders (at any depth), files, s3:// URIs."""
    overlays: bool = True
    """Write the masks over the pictures too, to look at."""
    probabilities: bool = False
    """Write each pixel's probability too (PNG, 255 is 1)."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to compute on; auto takes a GPU if there is one."""
    tracking: str | None = None
    """MLflow's store, for its models. None: MLFLOW_TRACKING_URI, or the store in this directory."""


def run(config: Config) -> int:
    """Segment the pictures and return the exit code.

    Raises:
        ValueError: the model does not exist, an example is invalid, or there is no picture.
    """
    from fss.cli._make_masks import Segmentation, find_pictures, make_masks, write
    from fss.inference.predictor import load_segmenter
    from fss.visualize import contact_sheet, jpeg_bytes

    pairs = [parse_support(text) for texts in config.support for text in texts]
    queries = [query for queries in config.query for query in queries]
    if not pairs or not queries:
        raise ValueError("give at least one example (--support PICTURE:MASK) and something to segment (--query FOLDER)")
    pictures = find_pictures(queries, config.output)
    device = None if config.device == "auto" else config.device
    predictor = load_segmenter(config.model, device=device, tracking=config.tracking)
    examples = predictor.examples([picture for picture, _ in pairs], [mask for _, mask in pairs])
    tiles = [(rgb, mask, "") for rgb, mask in examples.supports]
    write(config.output, "examples.jpg", jpeg_bytes(contact_sheet(tiles, side=320, title="examples and their masks")))

    def segment(rgb: "UInt8", _: "Picture") -> Segmentation:
        prediction = examples.predict(rgb)
        sureness = round(float(abs(prediction.probability - 0.5).mean() * 2), 4)
        return Segmentation(mask=prediction.mask, soft=prediction.probability, scores={"sureness": sureness})

    unusable = make_masks(
        pictures,
        segment,
        config.output,
        overlays=config.overlays,
        soft=config.probabilities,
        what="segmenting by example",
    )
    return PARTIAL if unusable else SUCCESS


def parse_support(text: str) -> tuple[str, str | tuple[float, ...]]:
    """Split PICTURE:MASK or PICTURE:LEFT,TOP,RIGHT,BOTTOM into the picture and its mask or box.

    Raises:
        ValueError: the text has neither form.
    """
    pair = _PAIR.fullmatch(text)
    if pair is None:
        raise ValueError(f"an example must be PICTURE:MASK or PICTURE:LEFT,TOP,RIGHT,BOTTOM, got {text!r}")
    mask = pair["mask"]
    return pair["picture"], tuple(float(number) for number in mask.split(",")) if _BOX.fullmatch(mask) else mask
