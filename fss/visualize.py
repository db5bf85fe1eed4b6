"""Visualizations: grids of images with their masks, and episodes with truth and prediction side by side."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage as ski
from PIL import Image, ImageDraw, ImageFont

FOREGROUND = (255, 64, 64)
SUPPORT = (64, 128, 255)
CORRECT = (64, 200, 96)
IGNORED = (255, 210, 0)
EPISODE_LEGEND = "support, truth, prediction (red wrong, yellow missed)"
_GAP = 4
_CAPTION = 14
_PAPER = 255
_ONE_COLUMN = 4  # largest number of episodes in a single column


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
    """Pairs of image and mask; at most the first three are drawn."""
    caption: str = ""
    """Caption below the row, such as class and IoU."""


def overlay(rgb: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int] = FOREGROUND) -> np.ndarray:
    """Tint and outline a mask over an image.

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
            _tint(picture, np.where(ski.morphology.erosion(region), 0.45, region), tint)
    return np.asarray(picture)


def contact_sheet(
    tiles: Sequence[tuple[np.ndarray, np.ndarray, str]], *, side: int = 160, columns: int = 6, title: str = ""
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
        cells.append(_with_caption(np.vstack([picture, _strip(2, side), overlay(picture, small)]), caption))
    return _with_title(_grid(cells, columns), title) if cells else _with_title(_strip(side, side), title or "empty")


def episode_sheet(episodes: Sequence[EpisodeView], *, side: int = 160, title: str = "") -> np.ndarray:
    """Draw a row per episode: supports with their masks, query with truth, query with prediction: uint8 [H,W,3].

    In the prediction correct foreground is green, wrong foreground red and missed foreground yellow. More than four
    episodes are drawn in two columns, the first half on the left.
    """
    rows = []
    for episode in episodes:
        cells = [overlay(*fit(rgb, mask, side), SUPPORT) for rgb, mask in episode.supports[:3]]
        query, truth = fit(episode.query, episode.truth, side)
        _, prediction = fit(episode.query, episode.prediction, side)
        cells += [overlay(query, truth), _compare(query, truth, prediction)]
        rows.append(_with_caption(_grid(cells, len(cells)), episode.caption))
    if not rows:
        return _with_title(_strip(side, side), title or "empty")
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0)), constant_values=_PAPER) for row in rows]
    if len(padded) <= _ONE_COLUMN:
        return _with_title(np.vstack(padded), title)
    half = -(-len(padded) // 2)
    left, right = np.vstack(padded[:half]), np.vstack(padded[half:])
    height = max(left.shape[0], right.shape[0])
    sides = [np.vstack([side, _strip(height - side.shape[0], width)]) for side in (left, right)]
    return _with_title(np.hstack([sides[0], _strip(height, 4 * _GAP), sides[1]]), title)


def fit(rgb: np.ndarray, mask: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Resize an image and its mask to fit a square of ``side`` pixels, centred on white and on background."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))
    label = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    canvas, label_canvas = _strip(side, side), np.zeros((side, side), np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = small
    label_canvas[top : top + size[1], left : left + size[0]] = label
    return canvas, label_canvas


def save_png(picture: np.ndarray, path: str | Path) -> None:
    """Write an image, uint8 [H,W,3] or [H,W], as PNG."""
    Path(path).write_bytes(png_bytes(picture))


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
    picture = Image.fromarray(query)
    valid = truth != 255
    predicted, true = (prediction == 1) & valid, (truth == 1) & valid
    for region, tint in ((predicted & true, CORRECT), (predicted & ~true, FOREGROUND), (~predicted & true, IGNORED)):
        _tint(picture, 0.5 * region, tint)
    return np.asarray(picture)


def _tint(picture: Image.Image, opacity: np.ndarray, colour: tuple[int, int, int]) -> None:
    picture.paste(colour, mask=Image.fromarray((255 * opacity).round().astype(np.uint8)))


def _grid(cells: Sequence[np.ndarray], columns: int) -> np.ndarray:
    shape = (-(-len(cells) // columns), min(columns, len(cells)))
    padded = ski.util.montage(cells, fill=[_PAPER] * 3, grid_shape=shape, padding_width=_GAP, channel_axis=-1)
    grid: np.ndarray = padded[_GAP:-_GAP, _GAP:-_GAP]
    return grid


def _strip(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _with_caption(picture: np.ndarray, caption: str) -> np.ndarray:
    return np.vstack([picture, _words(caption, picture.shape[1])]) if caption else picture


def _with_title(picture: np.ndarray, title: str) -> np.ndarray:
    return np.vstack([_words(title, picture.shape[1]), picture]) if title else picture


def _words(text: str, width: int) -> np.ndarray:
    strip = Image.fromarray(_strip(_CAPTION, width))
    ImageDraw.Draw(strip).text((2, 1), text, fill=(0, 0, 0), font=ImageFont.load_default(size=10))
    return np.asarray(strip)
