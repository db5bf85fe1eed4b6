"""The layout of sheets: cells in a grid, captions, titles and legends; all pictures are uint8 [H,W,3]."""

from collections.abc import Sequence

import numpy as np
import skimage as ski
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Entry = tuple[Colour | None, str]
"""Colour and words of an entry of a legend; None hatches the swatch."""
GAP = 4
"""Pixels between cells."""
PAPER = 255
"""Value of the empty sheet."""
_CAPTION = 18
_FONTS = range(13, 8, -1)  # sizes of words, of which the largest that fits is taken


def grid_of(cells: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Put cells of one size into a grid of columns, with gaps."""
    shape = (-(-len(cells) // columns), min(columns, len(cells)))
    padded = ski.util.montage(cells, fill=[PAPER] * 3, grid_shape=shape, padding_width=GAP, channel_axis=-1)
    grid: np.ndarray = padded[GAP:-GAP, GAP:-GAP]
    return grid


def strip(height: int, width: int) -> np.ndarray:
    """Return empty paper."""
    return np.full((height, width, 3), PAPER, np.uint8)


def with_caption(picture: np.ndarray, caption: str) -> np.ndarray:
    """Add a line of text below a picture, if there is one."""
    return np.vstack([picture, _words(caption, picture.shape[1])]) if caption else picture


def with_title(picture: np.ndarray, title: str) -> np.ndarray:
    """Add a line of text above a picture, if there is one."""
    return np.vstack([_words(title, picture.shape[1]), picture]) if title else picture


def draw_legend(entries: Sequence[Entry], width: int, *, columns: int, lines: int, fill: bool = False) -> np.ndarray:
    """Draw swatches with words in columns, in at most some lines, and the number of those left out; or fill them."""
    if len(entries) > columns * lines:
        last = columns * lines - 1
        entries = [*entries[:last], ((PAPER,) * 3, f"and {len(entries) - last:,} more")]
    lines = lines if fill else -(-len(entries) // columns)
    picture = Image.fromarray(strip(lines * _CAPTION, width))
    for position, entry in enumerate(entries):
        row, column = divmod(position, columns)
        picture.paste(_entry(entry, width // columns), (column * (width // columns), row * _CAPTION))
    return np.asarray(picture)


def hatch(height: int, width: int) -> np.ndarray:
    """Return grey diagonal stripes."""
    rows, columns = np.mgrid[:height, :width]
    stripes = np.where((rows + columns) % 6 < 3, 90, 190).astype(np.uint8)
    return np.repeat(stripes[..., None], 3, axis=2)


def _entry(entry: Entry, width: int) -> Image.Image:
    colour, text = entry
    picture = Image.fromarray(np.hstack([strip(_CAPTION, 14), _words(text, width - 14)]))
    swatch = hatch(_CAPTION - 4, 10) if colour is None else np.full((_CAPTION - 4, 10, 3), colour, np.uint8)
    picture.paste(Image.fromarray(swatch), (2, 2))
    return picture


def _words(text: str, width: int) -> np.ndarray:
    """Draw a line of text in the largest font that fits the width, or cut it off in the smallest one."""
    picture = Image.fromarray(strip(_CAPTION, width))
    fonts = [ImageFont.load_default(size=size) for size in _FONTS]
    font = next((font for font in fonts if font.getlength(text) <= width - 4), fonts[-1])
    ImageDraw.Draw(picture).text((2, 1), text, fill=(0, 0, 0), font=font)
    return np.asarray(picture)
