"""Masks and gestures as layers over a photograph: transparent PNGs and SVG."""

import base64
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from fss.app.drawing import HINTS, Drawing, Tool
from fss.app.session import Kind
from fss.core.arrays import UInt8
from fss.images.sheet_layout import Colour
from fss.visualize import FOREGROUND, WRONG, mask_layer, png_bytes

COLOURS: dict[Kind, Colour] = {"object": FOREGROUND, "other": WRONG}
"""Colours of the object and of another one that is not meant; colour-blind people tell them apart."""
Point = tuple[float, float]


def css_colour(kind: Kind) -> str:
    """Return the colour of a kind of marks for CSS and SVG."""
    return "#{:02x}{:02x}{:02x}".format(*COLOURS[kind])


def shown_size(shape: Sequence[int], side: int) -> tuple[int, int]:
    """Return width and height of a picture [H,W] that is shrunk to a long side of at most ``side`` pixels."""
    height, width = shape[:2]
    scale = min(1.0, side / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def mask_uri(mask: UInt8, side: int, colour: Colour = FOREGROUND) -> str:
    """Return a transparent PNG of a mask [H,W] in {0,1}, with a long side of at most ``side`` pixels, as data URI."""
    small = np.asarray(Image.fromarray(mask).resize(shown_size(mask.shape, side), Image.Resampling.NEAREST))
    return data_uri(png_bytes(mask_layer(small, colour)), "png")


def data_uri(data: bytes, kind: str) -> str:
    """Return an encoded picture as data URI; ``kind`` is png or jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def image_layer(uri: str, width: int, height: int) -> str:
    """Return SVG that fills a picture of this size with a PNG."""
    return f'<image href="{uri}" x="0" y="0" width="{width}" height="{height}"/>'


def gesture_layer(tool: Tool, points: Sequence[Point], width: float, kind: Kind) -> str:
    """Return SVG of a gesture that is being made."""
    colour = css_colour(kind)
    if tool == "box":
        return _box(points[0], points[-1], colour)
    if tool in ("click", "beside"):
        return _dot(points[0], colour if tool == "click" else "black")
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*points, points[-1]])
    stroke = "white" if tool == "erase" else colour
    return (
        f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-opacity="0.6" stroke-width="{width:.1f}" '
        'stroke-linecap="round" stroke-linejoin="round"/>'
    )


def hint_layer(drawing: Drawing | None, kind: Kind, scale: float) -> str:
    """Return SVG of the boxes and clicks of a drawing; ``scale`` is the shown size by that of the photograph."""
    pieces: list[str] = []
    for mark in drawing.marks if drawing else ():
        points = [(x * scale, y * scale) for x, y in mark.points]
        if mark.tool in HINTS and mark.tool != "stroke":
            pieces.append(gesture_layer(mark.tool, points, 1, kind))
    return "".join(pieces)


def _box(first: Point, last: Point, colour: str) -> str:
    (x, y), (other_x, other_y) = first, last
    place = (
        f'x="{min(x, other_x):.1f}" y="{min(y, other_y):.1f}" width="{abs(x - other_x):.1f}" '
        f'height="{abs(y - other_y):.1f}" fill="none"'
    )
    return _with_halo(f"<rect {place}", colour)


def _dot(point: Point, colour: str) -> str:
    x, y = point
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{colour}" stroke="white" stroke-width="2"/>'


def _with_halo(shape: str, colour: str) -> str:
    lines: Iterable[tuple[str, int, str]] = (("white", 4, ""), (colour, 2, ' stroke-dasharray="8 4"'))
    return "".join(f'{shape} stroke="{stroke}" stroke-width="{width}"{dashes}/>' for stroke, width, dashes in lines)
