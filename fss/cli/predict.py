"""Segment photographs by example.

    fss predict --model runs/masksplit --support cup.jpg:cup.png --query ~/photos --output masks
    fss predict --model birds@best --support a.jpg:a.png b.jpg:40,60,180,220 --query s3://bucket/new --output masks
    fss predict --model runs/masksplit --support cup.jpg:@120,80 --not bowl.jpg:bowl.png --query new --output masks
    fss predict --support cup.jpg:cup.png --query ~/photos --output masks

Without --model the segmenter is density, which needs no training. It downloads the ImageNet weights of MobileNetV2, or
takes them from a file (--backbone-weights), and adds the saliency of each picture if there is a student of
pipelines.train_saliency (--saliency-prior).

All examples together define the object. An example is a picture with a mask, or with boxes, points or strokes that its
mask is made from: 40,60,180,220 (the object in this box), 40,60,180,220+200,60,300,210 (two objects), @120,80 (the
object at this point), 40,60,180,220-@50,70 (without what is at that point), @strokes.png (the object under strokes).

The command writes a mask per picture (PNG, 255 on the object), overlays, masks.csv, and examples.jpg, which shows the
examples with their masks: look at it first. In masks.csv, "confidence" is the expected IoU of each mask, "presence" the
probability that the object is in the picture, and "found" is no where the mask is empty: nothing is marked, or the
presence is below the threshold that the model was calibrated to (--presence-threshold).

On a CPU, MaskSplit on MobileNetV2 is 1.4 times as fast with --backend onnxruntime or openvino, and 2.2 times with
--backend openvino --precision bf16. The network is converted once, which takes ten seconds to some minutes, and is kept
in ~/.cache/fss/programs.
"""

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from annotated_types import Ge, Le

from fss.cli._segmenter import SegmenterFlags, open_segmenter
from fss.core.config import settings
from fss.core.exit_codes import PARTIAL, SUCCESS
from fss.models.config import Backend, Scales

if TYPE_CHECKING:
    from fss.cli._make_masks import Picture
    from fss.core.arrays import UInt8
    from fss.inference.examples import Examples
    from fss.inference.inputs import MaskLike
    from fss.inference.predictor import Predictor


@settings
class Config(SegmenterFlags):
    """The arguments of ``fss predict``."""

    output: str
    """Folder or s3:// URI for the masks."""
    support: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Examples: PICTURE:MASK, PICTURE:LEFT,TOP,RIGHT,BOTTOM (a box, in pixels), PICTURE:@X,Y (a point) or
    PICTURE:@STROKES."""
    not_: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="not")] = ()
    """Examples of what is not meant, in the same forms."""
    boxes: Literal["object", "filled"] = "object"
    """Mask of a box: the object in it, or its whole inside."""
    query: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Pictures to segment: folders (at any depth), files, s3:// URIs."""
    refine: bool = True
    """Let outlines follow the edges of each picture, at its own size."""
    scales: Scales = "whole"
    """Scales in which pictures are seen: whole (one pass), adaptive (also in nine tiles where the object is small) or
    tiles (always, in ten passes)."""
    flip: bool = False
    """See each picture mirrored too, which is better and costs a second pass."""
    presence_threshold: Annotated[float, Ge(0), Le(1)] | None = None
    """Presence below which a mask is empty: the object is not found. 0: never. None: the model's own threshold."""
    overlays: bool = True
    """Write the masks over the pictures too, to look at."""
    probabilities: bool = False
    """Write each pixel's probability too (PNG, 255 is 1)."""
    backend: Backend = "torch"
    """What segments pictures: torch, or on a CPU onnxruntime or openvino, for which the network is converted once."""
    batch_size: Annotated[int, Ge(1)] | None = None
    """Pictures that go through the backbone at once. None: 16 on a GPU and 1 on a CPU, where batches are slower."""


def run(config: Config) -> int:
    """Segment the pictures and return the exit code.

    Raises:
        ValueError: the model does not exist, an example is invalid, or there is no picture.
    """
    from fss.cli._make_masks import EXAMPLES, PASSES, Segmentation, find_pictures, make_masks, write
    from fss.inference.prompts import Prompt

    _show_progress("fss.inference.converted")
    pairs, negatives = _parse(config.support, config.boxes), _parse(config.not_, config.boxes)
    queries = [query for queries in config.query for query in queries]
    if not pairs or not queries:
        raise ValueError("give at least one example (--support PICTURE:MASK) and something to segment (--query FOLDER)")
    if config.boxes == "filled" and not any(isinstance(mask, Prompt) and mask.boxes for _, mask in pairs + negatives):
        raise ValueError("--boxes filled is for examples with a box, but there is none; leave it out")
    files = [file for picture, mask in pairs + negatives for file in (picture, *_files(mask))]
    pictures = find_pictures(queries, config.output, soft=config.probabilities, examples=files)
    predictor, _ = open_segmenter(config, "fss predict", backend=config.backend)
    examples = _encode(predictor, pairs, negatives)
    write(config.output, EXAMPLES, _sheet(examples, pairs, negatives))

    def segment(batch: "Sequence[tuple[Picture, UInt8]]") -> Iterator[Segmentation]:
        predictions = examples.predict_many(
            (rgb for _, rgb in batch),
            batch_size=len(batch),
            refine=config.refine,
            scales=config.scales,
            flip=config.flip,
            presence_threshold=config.presence_threshold,
        )
        for prediction in predictions:
            scores: dict[str, float] = {"confidence": round(prediction.confidence, 4)}
            scores["presence"] = round(prediction.presence, 4)
            if config.scales != "whole" or config.flip:
                scores[PASSES] = prediction.passes
            yield Segmentation(mask=prediction.mask, soft=prediction.probability, scores=scores, found=prediction.found)

    unusable = make_masks(
        pictures,
        segment,
        config.output,
        overlays=config.overlays,
        soft=config.probabilities,
        what="segmenting by example",
        advice="Where masks are wrong: see in examples.jpg whether the examples are right, and give some of those "
        "pictures as examples too (--support), or what was taken for the object (--not)",
        batch_size=config.batch_size or predictor.batch_size,
    )
    return PARTIAL if unusable else SUCCESS


def _show_progress(module: str) -> None:
    """Print what a module logs, such as the time that a conversion takes."""
    logging.basicConfig(format="fss predict: %(message)s")
    logging.getLogger(module).setLevel(logging.INFO)


def _parse(groups: Sequence[Sequence[str]], boxes: str) -> "list[tuple[str, MaskLike]]":
    from fss.cli._support_text import parse_support

    return [parse_support(text, filled=boxes == "filled") for texts in groups for text in texts]


def _files(mask: "MaskLike") -> list[str]:
    """Return the files of the mask of an example."""
    from fss.inference.prompts import Prompt

    values = [mask.strokes, mask.not_strokes] if isinstance(mask, Prompt) else [mask]
    return [value for value in values if isinstance(value, str)]


def _encode(
    predictor: "Predictor", pairs: "list[tuple[str, MaskLike]]", negatives: "list[tuple[str, MaskLike]]"
) -> "Examples":
    """Encode the examples, and print what is to be known about their masks."""
    from fss.inference.predictor import SupportWarning

    with warnings.catch_warnings(action="ignore", category=SupportWarning):
        examples = predictor.examples(
            [picture for picture, _ in pairs], [mask for _, mask in pairs], negatives=negatives
        )
    for note in examples.notes:
        print(f"fss predict: {note}", file=sys.stderr)
    return examples


def _sheet(examples: "Examples", pairs: "list[tuple[str, MaskLike]]", negatives: "list[tuple[str, MaskLike]]") -> bytes:
    """Draw all examples with their masks, captioned with what the masks were made from."""
    from fss.inference.prompts import Prompt
    from fss.visualize import contact_sheet, jpeg_bytes

    tiles = []
    for prefix, given, shown in (("", pairs, examples.supports), ("not: ", negatives, examples.negatives)):
        for (_, mask), (rgb, made) in zip(given, shown, strict=True):
            tiles.append((rgb, made, prefix + (f"from {mask}" if isinstance(mask, Prompt) else "mask")))
    return jpeg_bytes(contact_sheet(tiles, side=320, title="examples and their masks"))
