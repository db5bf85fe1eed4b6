"""What the verbs that make masks of pictures share: find them, read ahead, write masks and overlays, and tell."""

import csv
import io
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fss.collection.part_pipeline import prefetch
from fss.collection.sources.walk import is_photograph, stem_and_suffix, walk
from fss.core import storage
from fss.core.arrays import UInt8
from fss.core.console import output_console
from fss.core.exit_codes import defer_interrupts
from fss.images.decode import resize_long_side
from fss.images.mask_codec import encode_mask
from fss.inference.inputs import read_picture
from fss.visualize import jpeg_bytes, overlay

OVERLAY_SIDE = 1024  # pixels; overlays are for looking at
RECORD = "masks.csv"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A picture to make a mask of."""

    name: str
    """Of its mask: the picture's path below the folder that was named, without suffix."""
    uri: str
    """Where it is."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The mask of a picture."""

    mask: UInt8
    """uint8 [H,W] in {0,1}."""
    soft: np.ndarray
    """float32 [H,W] in 0..1."""
    said: dict[str, float] = field(default_factory=dict)
    """What else there is to say of it, for the record."""


def find_pictures(places: Sequence[str], out: str) -> list[Found]:
    """Find pictures by folders (at any depth) and files; those below ``out`` are left out.

    Raises:
        ValueError: there are none.
    """
    target = storage.absolute_uri(out)
    found: dict[str, str] = {}
    for place in places:
        root = storage.absolute_uri(place)
        if root == target:
            raise ValueError(f"{place} holds the pictures; write the masks into another folder")
        found |= {uri: path for uri, path in _pictures(root).items() if not uri.startswith(f"{target}/")}
    if not found:
        raise ValueError(f"there is no picture in {', '.join(places)}; name folders, pictures or s3:// URIs")
    stems = {uri: stem_and_suffix(path)[0] for uri, path in found.items()}
    shared = Counter(stems.values())
    names = {uri: stem if shared[stem] == 1 else found[uri] for uri, stem in stems.items()}
    if len(set(names.values())) < len(names):
        raise ValueError(f"two of {', '.join(places)} hold pictures of the same name; make their masks one by one")
    return [Found(name=names[uri], uri=uri) for uri in found]


def make_masks(
    found: Sequence[Found],
    answer: Callable[[UInt8, Found], Answer],
    out: str,
    *,
    overlays: bool,
    soft: bool,
    what: str,
) -> int:
    """Write the mask of every picture and a record of all; returns how many pictures could not be used.

    Args:
        found: the pictures.
        answer: makes the mask of one, given as uint8 [H,W,3].
        out: folder; masks are ``<name>.png``, 255 on the object.
        overlays: write them over the pictures too, into ``overlays/``.
        soft: write the probabilities too, into ``soft/``.
        what: the word for progress.
    """
    rows: list[dict[str, object]] = []
    errors: dict[str, str] = {}
    start = time.monotonic()
    pairs = prefetch(_read(each) for each in found)
    console = Console(stderr=True)
    with defer_interrupts() as check:
        for each, picture in track(pairs, what, len(found), console=console, disable=not sys.stderr.isatty()):
            check()
            if isinstance(picture, str):
                errors[each.uri] = picture
                rows.append({"picture": each.uri, "error": picture})
                continue
            made = answer(picture, each)
            write(out, f"{each.name}.png", encode_mask(made.mask * np.uint8(255)))
            if overlays:
                small = resize_long_side(picture, OVERLAY_SIDE)
                mask = np.asarray(Image.fromarray(made.mask).resize(small.shape[1::-1], Image.Resampling.NEAREST))
                write(out, f"overlays/{each.name}.jpg", jpeg_bytes(overlay(small, mask)))
            if soft:
                write(out, f"soft/{each.name}.png", encode_mask(np.rint(made.soft * 255).astype(np.uint8)))
            share = round(float(made.mask.mean()), 4)
            rows.append({"picture": each.uri, "mask": f"{each.name}.png", "share": share, **made.said, "error": ""})
    write(out, RECORD, _csv(rows))
    _show(what, out, len(found), errors, time.monotonic() - start)
    return len(errors)


def write(out: str, name: str, data: bytes) -> None:
    """Write a file below ``out``, whole or not at all."""
    storage.write_atomically(*storage.resolve(storage.join(out, name)), data)


def _pictures(root: str) -> dict[str, str]:
    """The pictures in a folder, or the one that is named: their paths below it by URI."""
    fs, path = storage.resolve(root)
    if fs.get_file_info(path).is_file:
        return {root: root.rsplit("/", 1)[-1]}
    return {uri: below for below, uri in walk(root).uris.items() if is_photograph(below)}


def _read(found: Found) -> tuple[Found, UInt8 | str]:
    try:
        return found, read_picture(found.uri)
    except ValueError as error:
        return found, str(error)


def _csv(rows: Sequence[dict[str, object]]) -> bytes:
    columns = list(dict.fromkeys(["picture", "mask", "share", *(name for row in rows for name in row)]))
    text = io.StringIO()
    table = csv.DictWriter(text, columns)
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")


def _show(what: str, out: str, pictures: int, errors: dict[str, str], seconds: float) -> None:
    table = Table(title=what, show_header=False, title_justify="left")
    table.add_row("masks", f"{pictures - len(errors)} of {pictures} pictures, {pictures / seconds:.1f} a second")
    for uri, error in list(errors.items())[:20]:
        table.add_row("not usable", f"{uri}: {error}")
    if len(errors) > 20:
        table.add_row("", f"and {len(errors) - 20} more, in {RECORD}")
    table.add_row("written to", f"{out} (its {RECORD} lists them)")
    output_console().print(table)


def lines(pairs: Iterator[tuple[str, object]]) -> None:
    """Print pairs as a table of two columns."""
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, str(value))
    output_console().print(table)
