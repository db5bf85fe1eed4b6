"""Functions of the verbs that make masks: find and read pictures, write masks and overlays, print a summary."""

import csv
import io
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from rich.table import Table

from fss.collection import part_io
from fss.collection.sources.links import BROKEN, FOLDERS, OUTSIDE, UNREADABLE
from fss.collection.sources.walk import OTHER_FORMATS, is_photograph, stem_and_suffix, walk
from fss.core import storage
from fss.core.arrays import UInt8
from fss.core.console import cell, output_console, with_progress
from fss.core.exit_codes import defer_interrupts
from fss.core.prefetch import batched, prefetch
from fss.images.decode import FORMATS, resize_long_side
from fss.images.mask_codec import encode_mask
from fss.inference.inputs import read_picture
from fss.inference.prediction import UNSURE
from fss.models.scales import TILES
from fss.visualize import jpeg_bytes, overlay

FILES = ("csv", "jpeg", "jpg", "json", "png", "xml", "zip")
"""Endings that no folder of masks has."""
NOT_FOLLOWED = (OUTSIDE, FOLDERS, BROKEN, UNREADABLE)
"""What is left out of a folder and may hold pictures."""
OVERLAY_SIDE = 1024  # pixels; overlays are for looking at
TABLE = "masks.csv"
EXAMPLES = "examples.jpg"
SOFT = "soft"
"""Folder of the probabilities."""
PASSES = "passes"
"""Column of the passes of a picture through the network, whose mean the summary tells."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture to segment."""

    name: str
    """Name of the mask: the path of the picture below the given folder, without suffix unless another has that name."""
    uri: str
    """Path or s3:// URI of the picture."""


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """The segmentation of a picture."""

    mask: UInt8
    """uint8 [H,W] in {0,1}."""
    soft: np.ndarray
    """float32 [H,W] in 0..1, the probability of the object."""
    scores: dict[str, float] = field(default_factory=dict)
    """Additional columns of masks.csv."""
    found: bool | None = None
    """Whether the object was found; None where none was searched for."""


def check_folder(output: str) -> None:
    """Refuse the name of a file for a folder of masks, and a folder that cannot be written.

    Raises:
        ValueError: the name ends like that of a file, or the folder cannot be written.
    """
    stem, _, suffix = output.rpartition(".")
    if stem and suffix.lower() in FILES:
        raise ValueError(f"--output {output} is named like a file, but a folder of masks is written; give {stem}")
    storage.check_writable(output)


def find_pictures(
    sources: Sequence[str], out: str, *, soft: bool = False, examples: Sequence[str] = ()
) -> list[Picture]:
    """Find pictures in folders (at any depth) and among files; of a folder, those below ``out`` are left out.

    Args:
        sources: folders, files and s3:// URIs.
        out: folder or s3:// URI of the masks.
        soft: whether the probabilities will be written, too.
        examples: pictures and masks of the examples.

    Raises:
        ValueError: there is no picture, ``out`` has pictures of the sources, is named like a file or cannot be
            written, two pictures would have a file in common, or an example would be replaced.
    """
    check_folder(out)
    target = storage.real_uri(out)
    paths: dict[str, str] = {}
    for source in sources:
        root, real = storage.absolute_uri(source), storage.real_uri(source)
        if real == target:
            raise ValueError(f"{source} is a folder of pictures; write the masks into another folder")
        if real.startswith(f"{target}/"):
            raise ValueError(
                f"{source} lies in the folder of the masks, --output {out}, where a mask could replace a picture; give "
                "another folder"
            )
        inside = f"{root}/{target.removeprefix(f'{real}/')}/"
        paths |= {uri: path for uri, path in _pictures(root).items() if not uri.startswith(inside)}
    if not paths:
        raise ValueError(
            f"there is no picture in {', '.join(sources)}; give pictures ({FORMATS}), or "
            "folders or s3:// URIs that hold some"
        )
    stems = {uri: stem_and_suffix(path)[0] for uri, path in paths.items()}
    taken = Counter([*stems.values(), *set(paths.values())])
    names = {uri: stem if taken[stem] == 1 else paths[uri] for uri, stem in stems.items()}
    masks = set(names.values())
    if len(masks) < len(names):
        raise ValueError(f"two of {', '.join(sources)} contain pictures of the same name; process them one by one")
    if soft and (shared := sorted(masks & {f"{SOFT}/{name}" for name in masks})):
        raise ValueError(
            f"{shared[0]}.png would be the mask of one picture and the probabilities of another; rename the folder "
            f"{SOFT} of the pictures, or process it on its own"
        )
    written = {name for each in masks for name in (f"{each}.png", f"overlays/{each}.jpg", f"{SOFT}/{each}.png")}
    for example in examples:
        if storage.real_uri(example).removeprefix(f"{target}/") in written | {EXAMPLES}:
            raise ValueError(
                f"the example {example} would be replaced by a file of the masks, --output {out}; give another folder"
            )
    return [Picture(name=names[uri], uri=uri) for uri in paths]


def make_masks(
    pictures: Sequence[Picture],
    segment: Callable[[Sequence[tuple[Picture, UInt8]]], Iterable[Segmentation]],
    out: str,
    *,
    overlays: bool,
    soft: bool,
    what: str,
    advice: str = "",
    batch_size: int = 1,
) -> int:
    """Write the masks of all pictures and a table of them, and return the number of unusable pictures.

    Args:
        pictures: the pictures.
        segment: segments pictures, which it gets with their pixels, uint8 [H,W,3], in their order.
        out: folder or s3:// URI. The masks are ``<name>.png``, 255 on the object; the table is ``masks.csv``.
        overlays: also write the pictures with their masks into ``overlays/``.
        soft: also write the probabilities into :data:`SOFT`.
        what: description for the progress and the summary.
        advice: what to do where masks are wrong, for the last row of the summary.
        batch_size: pictures per call of ``segment``.
    """
    before = _listed_masks(out)
    rows: list[dict[str, Any]] = []
    errors: dict[str, str] = {}
    start = time.monotonic()
    results = _segmented(prefetch((_read(each) for each in pictures), 2 * batch_size), segment, batch_size)
    with defer_interrupts() as check:
        for each, rgb, result in with_progress(results, what, len(pictures), unit="pictures"):
            check()
            if isinstance(rgb, str):
                errors[each.uri] = rgb
                rows.append({"picture": each.uri, "error": rgb})
                continue
            assert result is not None
            write(out, f"{each.name}.png", encode_mask(result.mask * np.uint8(255)))
            if overlays:
                small = resize_long_side(rgb, OVERLAY_SIDE)
                mask = np.asarray(Image.fromarray(result.mask).resize(small.shape[1::-1], Image.Resampling.NEAREST))
                write(out, f"overlays/{each.name}.jpg", jpeg_bytes(overlay(small, mask)))
            if soft:
                write(out, f"{SOFT}/{each.name}.png", encode_mask(np.rint(result.soft * 255).astype(np.uint8)))
            share = round(float(result.mask.mean()), 4)
            scores: dict[str, object] = dict(result.scores)
            if result.found is not None:
                scores["found"] = "yes" if result.found else "no"
            rows.append({"picture": each.uri, "mask": f"{each.name}.png", "share": share, **scores, "error": ""})
    write(out, TABLE, _csv(rows))
    stale = len(before - {row.get("mask") for row in rows})
    look = f"look at {storage.join(out, 'overlays')}. " if overlays and len(errors) < len(rows) else ""
    _print_summary(what, out, rows, errors, time.monotonic() - start, stale, look + advice)
    return len(errors)


def _segmented(
    pairs: Iterable[tuple[Picture, UInt8 | str]],
    segment: Callable[[Sequence[tuple[Picture, UInt8]]], Iterable[Segmentation]],
    batch_size: int,
) -> Iterator[tuple[Picture, UInt8 | str, Segmentation | None]]:
    """Yield each picture with its pixels and segmentation, or with the reason why it cannot be used and None."""
    for batch in batched(pairs, batch_size):
        results = iter(segment([(each, rgb) for each, rgb in batch if not isinstance(rgb, str)]))
        for each, rgb in batch:
            yield each, rgb, None if isinstance(rgb, str) else next(results)


def write(out: str, name: str, data: bytes) -> None:
    """Write a file below ``out`` atomically."""
    storage.write_atomically(*storage.resolve(storage.join(out, name)), data)


def _pictures(root: str) -> dict[str, str]:
    """Return the relative paths, by URI, of the pictures in a folder, or of a single picture.

    What may be pictures elsewhere, or behind a lack of permissions, is told.

    Raises:
        ValueError: there is no such folder or bucket, or the object store does not answer.
    """
    storage.check_access(root)
    fs, path = storage.resolve(root)
    if fs.get_file_info(path).is_file:
        return {root: root.rsplit("/", 1)[-1]}
    tree = walk(root)
    left_out = [f"{tree.ignored[reason]} {reason}" for reason in NOT_FOLLOWED if tree.ignored[reason]]
    if left_out:
        print(f"{root}: left out are {', '.join(left_out)}; name what they lead to as well", file=sys.stderr)
    if count := tree.ignored[OTHER_FORMATS]:
        text = f"left out are {count} {OTHER_FORMATS}, such as camera raw; convert them to JPEG, PNG or TIFF first"
        print(f"{root}: {text}", file=sys.stderr)
    return {uri: path for path, uri in tree.uris.items() if is_photograph(path)}


def _read(picture: Picture) -> tuple[Picture, UInt8 | str]:
    """Return a picture with its pixels, or with the reason why it cannot be used."""
    try:
        return picture, read_picture(picture.uri)
    except ValueError as error:
        return picture, str(error)


def _listed_masks(out: str) -> set[str | None]:
    """Return the masks in the table of an earlier run."""
    uri = storage.join(out, TABLE)
    if not part_io.exists(uri):
        return set()
    text = storage.read_bytes(uri).decode(errors="replace")
    return {row.get("mask") for row in csv.DictReader(io.StringIO(text))} - {None, ""}


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    columns = list(dict.fromkeys(["picture", "mask", "share", *(name for row in rows for name in row)]))
    text = io.StringIO()
    table = csv.DictWriter(text, columns)
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")


def _print_summary(
    what: str,
    out: str,
    rows: Sequence[dict[str, Any]],
    errors: dict[str, str],
    seconds: float,
    stale: int,
    advice: str,
) -> None:
    passes = [row[PASSES] for row in rows if PASSES in row]
    not_found = sum(row.get("found") == "no" for row in rows)
    sure = sorted((row["confidence"], row["mask"]) for row in rows if row.get("found") == "yes")
    table = Table(title=what, show_header=False, title_justify="left")
    segmented = f"{len(rows) - len(errors)} of {len(rows)} segmented"
    table.add_row("pictures", f"{segmented}, {len(rows) / seconds:.1f} a second")
    if sure:
        unsure, (lowest, name) = sum(confidence < UNSURE for confidence, _ in sure), sure[0]
        text = f"expected IoU {statistics.median(each for each, _ in sure):.2f} in the median; {unsure} below {UNSURE}"
        table.add_row("confidence", cell(f"{text}; the lowest is {lowest:.2f} ({name})"))
    if passes:
        tiled = sum(number > len(TILES) for number in passes)
        table.add_row(PASSES, f"{np.mean(passes):.1f} a picture; {tiled} of {len(passes)} were seen in tiles too")
    if not_found:
        table.add_row("not found", f"the object in {not_found} of them; their masks are empty (found is no in {TABLE})")
    for uri, error in list(errors.items())[:20]:
        table.add_row("not usable", cell(f"{uri}: {error}"))
    if len(errors) > 20:
        table.add_row("", f"and {len(errors) - 20} more, in {TABLE}")
    if stale:
        table.add_row("from before", f"{stale} masks of an earlier run are still there, which {TABLE} does not list")
    table.add_row("written to", cell(f"{out} (its {TABLE} lists them)"))
    if advice:
        table.add_row("next", cell(advice.strip()))
    output_console().print(table)


def print_table(pairs: Iterator[tuple[str, object]]) -> None:
    """Print pairs as a table with two columns."""
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(cell(name), cell(value))
    output_console().print(table)
