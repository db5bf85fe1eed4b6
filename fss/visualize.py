"""Visualizations: grids of images with masks, sheets of labelled images, and episodes with truth and prediction."""

import colorsys
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fss.collection import Sample
from fss.core import storage
from fss.core.arrays import IGNORE
from fss.images.sheet_layout import (
    GAP,
    PAPER,
    Colour,
    Entry,
    draw_legend,
    grid_of,
    hatch,
    strip,
    with_caption,
    with_title,
)

# Colours that colour-blind people tell apart; the last three are of Okabe and Ito (https://jfly.uni-koeln.de/color/).
FOREGROUND: Colour = (0, 158, 255)
"""Colour of an object: a mask, a support or the truth."""
SUPPORT = FOREGROUND
CORRECT: Colour = (0, 158, 115)
WRONG: Colour = (213, 94, 0)
MISSED: Colour = (240, 228, 66)
IGNORED = MISSED
SUPPORTS_DRAWN = 3  # of an episode, at most
_HUES = 12  # hues that are told apart in one tone
_TONES = ((0.9, 0.95), (0.55, 1.0), (1.0, 0.6), (0.45, 0.75))  # saturation and value
_LEGEND = 16  # largest number of lines of a legend
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
_LINE = 2  # pixels of the line of an outline
_INSIDE = 0.3  # opacity of the tint inside of an outline
_ONE_COLUMN = 4  # largest number of episodes in a single column


EPISODE_COLOURS: tuple[Entry, ...] = (
    (FOREGROUND, "object, as labelled"),
    (CORRECT, "found, and right"),
    (WRONG, "marked, but wrong"),
    (MISSED, "missed"),
)
"""Legend of a sheet of episodes."""


@dataclass(frozen=True, kw_only=True)
class EpisodeView:
    """An episode to visualize; images are uint8 [H,W,3], masks are [H,W] of the size of their image."""

    query: np.ndarray
    """Query image."""
    truth: np.ndarray
    """Target of the query in {0, 1, 255}."""
    prediction: np.ndarray
    """Predicted mask in {0, 1}."""
    supports: Sequence[tuple[np.ndarray, np.ndarray]]
    """Pairs of image and mask; the first :data:`SUPPORTS_DRAWN` are drawn."""
    caption: str = ""
    """Caption below the row, such as class and IoU."""


def overlay(rgb: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int] = FOREGROUND) -> np.ndarray:
    """Tint a mask over an image, and outline it inside its edge: a white halo around a line of the colour.

    The halo separates the line from an image of the same colour. Pixels outside of the mask stay as they are.

    Args:
        rgb: image, uint8 [H,W,3].
        mask: [H,W] in {0, 1, 255}; pixels at 255 get the colour of ignored pixels.
        colour: RGB colour of the foreground.

    Returns:
        uint8 [H,W,3].

    Raises:
        ValueError: the mask and the image differ in size.
    """
    if mask.shape != rgb.shape[:2]:
        raise ValueError(f"mask {mask.shape} and image {rgb.shape[:2]} differ in size; resize the mask to the image")
    picture = Image.fromarray(rgb)
    for value, tint in ((1, colour), (255, IGNORED)):
        region = mask == value
        if region.any():
            _outline(picture, region, tint)
    return np.asarray(picture)


def _outline(picture: Image.Image, region: np.ndarray, colour: Colour) -> None:
    """Draw a region: white at its edge, then a line of the colour, and a light tint inside."""
    edge, line = _outline_opacities(region)
    _tint(picture, edge, (PAPER,) * 3)
    _tint(picture, line, colour)


def _outline_opacities(region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the opacity of white and that of the colour, [H,W] in 0..1, for :func:`_outline`."""
    inside = cv2.erode(region.astype(np.uint8), _CROSS, borderValue=0)
    line = cv2.erode(inside, _CROSS, iterations=_LINE, borderValue=0)
    return np.where(inside, 0.0, region), np.where(line, _INSIDE, inside)


def mask_layer(mask: np.ndarray, colour: Colour = FOREGROUND) -> np.ndarray:
    """Return what :func:`overlay` draws for a mask [H,W] in {0, 1} as a layer of its own, RGBA uint8 [H,W,4]."""
    edge, line = _outline_opacities(mask == 1)
    layer = np.empty((*mask.shape, 4), np.uint8)
    layer[..., :3] = np.where(edge[..., None] > 0, PAPER, np.array(colour, np.uint8))
    layer[..., 3] = (255 * np.maximum(edge, line)).round()
    return layer


def contact_sheet(
    tiles: Sequence[tuple[np.ndarray, np.ndarray, str]], *, side: int = 192, columns: int = 6, title: str = ""
) -> np.ndarray:
    """Draw a grid of tiles (image, mask, caption), each as the image above its overlay: uint8 [H,W,3].

    Args:
        tiles: images uint8 [H,W,3], masks [H,W] in {0, 1, 255} and captions.
        side: side of an image in the grid, in pixels.
        columns: tiles per row.
        title: text above the grid.
    """
    cells = []
    for rgb, mask, caption in tiles:
        picture, small = fit(rgb, mask, side)
        cells.append(with_caption(np.vstack([picture, strip(2, side), overlay(picture, small)]), caption))
    return with_title(grid_of(cells, columns), title) if cells else with_title(strip(side, side), title or "empty")


def label_sheet(
    samples: Iterable[Sample],
    names: Mapping[int, str],
    pictures: Mapping[int, int],
    *,
    side: int = 180,
    columns: int = 4,
    title: str = "",
) -> np.ndarray:
    """Draw each image beside its labels, the classes that it shows, and a legend of all classes: uint8 [H,W,3].

    Ignored pixels are hatched. One image is held at its full size at a time.

    Args:
        samples: images with their masks.
        names: class names by id.
        pictures: number of pictures that show a class, by id.
        side: side of an image in the grid, in pixels.
        columns: images per row.
        title: text above the sheet.

    Returns:
        The legend with the number of pictures of each class, and below it the images.
    """
    colours = class_colours(sorted({*names, *pictures}, key=lambda class_id: (-pictures.get(class_id, 0), class_id)))
    cells = [_label_cell(sample, names, colours, side) for sample in samples]
    grid = grid_of(cells, columns) if cells else strip(side, 2 * side)
    counts = {class_id: pictures.get(class_id, 0) for class_id in sorted(colours)}
    legend: list[Entry] = [(colours[c], f"{c} {names.get(c, '')}: {count:,}") for c, count in counts.items()]
    heading = f"{title}; classes by id, with the number of pictures that show them" if title else ""
    return with_title(
        np.vstack([draw_legend(legend, grid.shape[1], columns=2 * columns, lines=_LEGEND), grid]), heading
    )


def episode_legend(shots: int) -> str:
    """Return what a row of a sheet of episodes with so many supports shows."""
    supports = "supports" if shots <= SUPPORTS_DRAWN else f"{SUPPORTS_DRAWN} of the {shots} supports"
    return f"left to right: {supports}, the query with its truth, the query with the prediction"


def episode_sheet(
    episodes: Sequence[EpisodeView], *, side: int = 192, title: str = "", legend: Sequence[Entry] = EPISODE_COLOURS
) -> np.ndarray:
    """Draw a row per episode: supports with their masks, query with truth, query with prediction: uint8 [H,W,3].

    Supports and truth have one colour. In the prediction correct foreground is green, wrong foreground orange and
    missed foreground yellow, and the truth is outlined in white, over the query in grey. A legend above says so;
    ``legend`` has other words for these colours. More than four episodes are drawn in two columns, the first half on
    the left.
    """
    rows = []
    for episode in episodes:
        cells = [overlay(*fit(rgb, mask, side)) for rgb, mask in episode.supports[:SUPPORTS_DRAWN]]
        query, truth = fit(episode.query, episode.truth, side)
        _, prediction = fit(episode.query, episode.prediction, side)
        cells += [overlay(query, truth), _compare(query, truth, prediction)]
        rows.append(with_caption(grid_of(cells, len(cells)), episode.caption))
    if not rows:
        return with_title(strip(side, side), title or "empty")
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, GAP), (0, width - row.shape[1]), (0, 0)), constant_values=PAPER) for row in rows]
    head = draw_legend(legend, width, columns=2, lines=2, fill=True)
    if len(padded) <= _ONE_COLUMN:
        return with_title(np.vstack([head, *padded]), title)
    half = -(-len(padded) // 2)
    left, right = np.vstack(padded[:half]), np.vstack(padded[half:])
    height = max(left.shape[0], right.shape[0])
    sides = [np.vstack([side, strip(height - side.shape[0], width)]) for side in (left, right)]
    columns = np.hstack([sides[0], strip(height, 4 * GAP), sides[1]])
    head = np.hstack([head, strip(head.shape[0], columns.shape[1] - width)])
    return with_title(np.vstack([head, columns]), title)


def fit(rgb: np.ndarray, mask: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Resize an image and its mask to fit a square of ``side`` pixels, centred on white and on background."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))
    label = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    canvas, label_canvas = strip(side, side), np.zeros((side, side), np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = small
    label_canvas[top : top + size[1], left : left + size[0]] = label
    return canvas, label_canvas


def save_png(picture: np.ndarray, path: str | Path) -> None:
    """Write an image, uint8 [H,W,3] or [H,W], as PNG."""
    storage.write_atomically(*storage.resolve(path), png_bytes(picture))


def png_bytes(picture: np.ndarray) -> bytes:
    """Encode an image, uint8 [H,W,3] or [H,W], as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def jpeg_bytes(picture: np.ndarray) -> bytes:
    """Encode an image, uint8 [H,W,3], as JPEG of quality 90."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def _compare(query: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    # On grey, since a tint mixes with the colours of the image into one that stands for something else.
    picture = Image.fromarray(cv2.cvtColor(cv2.cvtColor(query, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))
    valid = truth != 255
    predicted, true = (prediction == 1) & valid, (truth == 1) & valid
    for region, tint in ((predicted & true, CORRECT), (predicted & ~true, WRONG), (~predicted & true, MISSED)):
        _tint(picture, 0.5 * region, tint)
    around = cv2.dilate(true.astype(np.uint8), _CROSS).astype(bool) & ~true
    _tint(picture, around.astype(float), (PAPER,) * 3)
    return np.asarray(picture)


def _percent(share: float) -> str:
    return "<1%" if share < 0.005 else f"{share:.0%}"


def class_colours(class_ids: Sequence[int]) -> dict[int, Colour]:
    """Return a colour per class; neighbours in the sequence differ most."""
    colours = {}
    for position, class_id in enumerate(class_ids):
        hue = position * 0.618034 % 1  # the golden ratio spreads any number of hues evenly
        saturation, value = _TONES[position // _HUES % len(_TONES)]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colours[class_id] = (round(255 * red), round(255 * green), round(255 * blue))
    return colours


def tint_classes(rgb: np.ndarray, mask: np.ndarray, colours: Sequence[Colour]) -> np.ndarray:
    """Tint and outline every class of an index mask in its colour, and hatch ignored pixels."""
    picture = Image.fromarray(rgb)
    for value, colour in enumerate(colours, start=1):
        region = mask == value
        if region.any():
            inside = cv2.erode(region.astype(np.uint8), np.ones((3, 3), np.uint8))
            _tint(picture, np.where(inside, 0.6, region), colour)
    hatched = np.asarray(picture).copy()
    ignored = mask == IGNORE
    hatched[ignored] = hatch(*mask.shape)[ignored]
    return hatched


def _label_cell(sample: Sample, names: Mapping[int, str], colours: Mapping[int, Colour], side: int) -> np.ndarray:
    """Draw an image beside its labels, above the largest of its classes."""
    assert sample.mask is not None, "a sheet of labels needs masks"
    rgb, mask = fit(sample.rgb, sample.mask, side)
    pixels = np.bincount(sample.mask.ravel(), minlength=256) / sample.mask.size
    shares = {class_id: float(pixels[value]) for value, class_id in enumerate(sample.classes, start=1) if pixels[value]}
    largest = sorted(shares.items(), key=lambda item: -item[1])
    entries: list[Entry] = [(colours[c], f"{names.get(c, c)} {_percent(share)}") for c, share in largest]
    if pixels[IGNORE]:
        entries.append((None, f"ignored {_percent(pixels[IGNORE])}"))
    tinted = tint_classes(rgb, mask, [colours.get(class_id, FOREGROUND) for class_id in sample.classes])
    pair = np.hstack([rgb, strip(side, 2), tinted])
    return np.vstack([pair, draw_legend(entries or [(None, "no class")], pair.shape[1], columns=3, lines=2, fill=True)])


def _tint(picture: Image.Image, opacity: np.ndarray, colour: tuple[int, int, int]) -> None:
    picture.paste(colour, mask=Image.fromarray((255 * opacity).round().astype(np.uint8)))
