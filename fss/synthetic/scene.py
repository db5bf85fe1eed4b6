"""Rendering of sample scenes: cluttered backgrounds, objects with shadows, lighting and grain.

Images are float32 RGB in [0, 1] until :func:`finish`.
"""

import math

import cv2
import numpy as np
import numpy.typing as npt

from fss.core.arrays import Float32, Float64
from fss.synthetic.classes import SPECIES, Colour, SampleClass, hsv
from fss.synthetic.textures import smooth_noise

_COARSE = 4
"""Downscaling factor for blurred shapes, which need no full resolution."""
_STRENGTH = (0.5, 0.85)
"""Range of the opacity of a pattern, from the main colour (0) to the full accent (1). It stays below 1 so that classes
with strong contrast still differ in colour for a network with little training."""


def paint_background(rng: np.random.Generator, height: int, width: int) -> Float32:
    """Return a background ``[height, width, 3]``: gradient, noise at several scales, a faint pattern, soft shapes.

    The soft shapes have the colours of the classes, so colour alone does not identify an object.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (x / width - 0.5) * math.cos(angle) + (y / height - 0.5) * math.sin(angle) + 0.5
    ramp = np.clip(ramp, 0.0, 1.0)[..., None]
    hue, value = rng.uniform(0, 360), rng.uniform(0.3, 0.9)
    first = hsv(hue, rng.uniform(0.05, 0.4), value)
    second = hsv(hue + rng.uniform(-40, 40), rng.uniform(0.05, 0.4), min(value + rng.uniform(-0.2, 0.2), 0.95))
    picture = first + ramp * (second - first)
    for octaves in (((3, 0.07), (7, 0.05)), ((18, 0.04), (45, 0.05))):
        noise = np.zeros((height, width), dtype=np.float32)
        for cells, amount in octaves:
            noise += amount * rng.uniform(0.2, 1.3) * smooth_noise(rng, height, width, cells)
        tint = 1 + 0.5 * rng.uniform(-1, 1, 3).astype(np.float32)
        picture += noise[..., None] * tint
    picture *= 1 + _faint_pattern(rng, x, y)[..., None]
    background: Float32 = np.clip(_soft_shapes(rng, picture), 0.0, 1.0)
    return background


def _faint_pattern(rng: np.random.Generator, x: Float32, y: Float32) -> Float32:
    """Return a relative brightness change ``[H, W]``: none, stripes, wood grain, tiles or speckles."""
    kind, amount, angle = rng.integers(5), rng.uniform(0.04, 0.13), rng.uniform(0, np.pi)
    height, width = x.shape
    across = x * math.cos(angle) + y * math.sin(angle)
    along = y * math.cos(angle) - x * math.sin(angle)
    pitch = 2 * math.pi / rng.uniform(7, 26)
    pattern: Float32 = np.zeros_like(x)
    if kind == 1:
        pattern = np.sin(across * pitch)
    elif kind == 2:
        pattern = np.sin(across * pitch + 5 * smooth_noise(rng, height, width, 4))
    elif kind == 3:
        pattern = np.tanh(4 * np.sin(across * pitch * 0.5) * np.sin(along * pitch * 0.5))
    elif kind == 4:
        pattern = np.tanh(6 * (smooth_noise(rng, height, width, int(rng.integers(16, 40))) - 0.25))
    return amount * pattern


def _soft_shapes(rng: np.random.Generator, picture: Float32) -> Float32:
    """Blend two to six blurred shapes in the colours of the classes over the image."""
    height, width = picture.shape[:2]
    small = (height // _COARSE + 1, width // _COARSE + 1)
    colour, opacity = np.zeros((*small, 3), dtype=np.float32), np.zeros((*small, 1), dtype=np.float32)
    for _ in range(int(rng.integers(2, 7))):
        species = SPECIES[rng.integers(len(SPECIES))]
        family: Colour = species.main if rng.random() < 0.7 else species.accent
        corners = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        centre, radius = rng.uniform(0, 1, 2) * small[::-1], rng.uniform(4, 13) * rng.uniform(0.5, 1.1, corners)
        outline = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
        canvas = np.zeros(small, dtype=np.uint8)
        cv2.fillPoly(canvas, [outline.astype(np.int32)], 255)
        blurred = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.8, 3.0)).astype(np.float32)[..., None]
        alpha = blurred * np.float32(rng.uniform(0.2, 0.6) / 255)
        colour += alpha * (family.draw(rng) - colour)
        opacity += alpha * (1 - opacity)
    layer = cv2.resize(np.dstack([colour, opacity]), (width, height), interpolation=cv2.INTER_LINEAR)
    return picture * (1 - layer[..., 3:]) + layer[..., :3]


def paint_object(
    picture: Float32, species: SampleClass, rng: np.random.Generator, *, centre: tuple[float, float], radius: float
) -> Float32:
    """Render one object with its shadow into ``picture`` in place and return its coverage ``[H, W]`` in [0, 1].

    Args:
        picture: image, float32 ``[H, W, 3]``.
        species: class of the object.
        rng: generator of outline, pattern, colours and pose.
        centre: centre (x, y) of the object in pixels.
        radius: half the extent of the object in pixels.
    """
    matrix = _pose(rng, species.turn, radius)
    parts = [
        (part.surface, [contour @ matrix.T + np.asarray(centre) for contour in part.contours])
        for part in species.shape(rng)
    ]
    left, top, right, bottom = _box([contour for _, contours in parts for contour in contours], picture)
    window = picture[top:bottom, left:right]
    height, width = window.shape[:2]
    u, v = _unit_coordinates(matrix, (centre[0] - left, centre[1] - top), height, width)
    accent_share = rng.uniform(*_STRENGTH) * species.pattern(u, v, 1.0 / radius, rng)[..., None]
    main, accent = species.main.draw(rng), species.accent.draw(rng)
    shade: Float32 = np.minimum(main, accent)
    surfaces: dict[str, Float32] = {
        "pattern": main + accent_share * (accent - main),
        "main": main,
        "accent": accent,
        "dark": 0.35 * shade + 0.05,
        "light": 0.25 * main + 0.72,
    }
    light = _light(rng, u, v)
    coverages = [_coverage(contours, (left, top), height, width) for _, contours in parts]
    total = np.zeros(picture.shape[:2], dtype=np.float32)
    total[top:bottom, left:right] = np.maximum.reduce(coverages)
    _cast_shadow(picture, total, rng, radius)
    for (surface, _), coverage in zip(parts, coverages, strict=True):
        window += coverage[..., None] * (surfaces[surface] * light - window)
    return total


def _box(contours: list[Float64], picture: Float32) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom (exclusive) of the contours, clipped to the image, with a margin of 1."""
    points = np.concatenate(contours)
    left, top = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 2, picture.shape[1::-1])
    return int(left), int(top), int(right), int(bottom)


def _pose(rng: np.random.Generator, turn: float, radius: float) -> npt.NDArray[np.float64]:
    """Return the 2 x 2 matrix from unit coordinates to pixels: scale, aspect ratio, shear, reflection and rotation."""
    angle = math.radians(rng.uniform(-turn, turn))
    stretch = math.exp(rng.uniform(-0.12, 0.12))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    upright = np.array([[mirror * stretch, rng.uniform(-0.12, 0.12)], [0.0, 1.0 / stretch]])
    spin = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    pose: npt.NDArray[np.float64] = radius * spin @ upright
    return pose


def _unit_coordinates(
    matrix: npt.NDArray[np.float64], centre: tuple[float, float], height: int, width: int
) -> tuple[Float32, Float32]:
    back = np.linalg.inv(matrix).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x - np.float32(centre[0]), y - np.float32(centre[1])
    return back[0, 0] * x + back[0, 1] * y, back[1, 0] * x + back[1, 1] * y


def _coverage(contours: list[Float64], corner: tuple[int, int], height: int, width: int) -> Float32:
    """Return the anti-aliased coverage in [0, 1], ``[height, width]``, of the window at ``corner``."""
    canvas = np.zeros((height, width), dtype=np.uint8)
    sixteenths = [np.round((contour - np.asarray(corner)) * 16).astype(np.int32) for contour in contours]
    cv2.fillPoly(canvas, sixteenths, 255, lineType=cv2.LINE_AA, shift=4)
    return canvas.astype(np.float32) / np.float32(255)


def _light(rng: np.random.Generator, u: Float32, v: Float32) -> Float32:
    """Return the lighting of the object ``[H, W, 1]``: brighter on one side, with slight noise."""
    angle = rng.uniform(-np.pi, 0.0)
    slope = rng.uniform(0.08, 0.2)
    height, width = u.shape
    light = 1 + slope * (u * math.cos(angle) + v * math.sin(angle)) + 0.05 * smooth_noise(rng, height, width, 30)
    clipped: Float32 = np.clip(light, 0.6, 1.3)[..., None]
    return clipped


def _cast_shadow(picture: Float32, coverage: Float32, rng: np.random.Generator, radius: float) -> None:
    """Darken the image in place with a soft shadow of the object."""
    height, width = coverage.shape
    small = cv2.resize(coverage, (width // _COARSE, height // _COARSE), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.9, 1.8))
    shift_x, shift_y = rng.uniform(-0.12, 0.12) * radius / _COARSE, rng.uniform(0.05, 0.16) * radius / _COARSE
    move = np.array([[1, 0, shift_x], [0, 1, shift_y]])
    small = cv2.warpAffine(small, move, (small.shape[1], small.shape[0]))
    shadow = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    picture *= 1 - np.float32(rng.uniform(0.2, 0.4)) * shadow[..., None]


def finish(rng: np.random.Generator, picture: Float32) -> npt.NDArray[np.uint8]:
    """Apply global lighting, blur and camera noise, and return uint8 RGB ``[H, W, 3]``."""
    height, width = picture.shape[:2]
    ramp = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(rng.uniform(-0.2, 0.2))
    tint = (1 + rng.uniform(-0.06, 0.06, 3)) * rng.uniform(0.88, 1.06)
    lit = cv2.GaussianBlur(picture * ((1 + ramp)[:, None] * tint.astype(np.float32)), (0, 0), rng.uniform(0.3, 0.6))
    grain = rng.standard_normal((height, width, 1), dtype=np.float32) * rng.uniform(0.006, 0.018)
    rgb: npt.NDArray[np.uint8] = (np.clip(lit + grain, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return rgb
