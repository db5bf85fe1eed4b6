"""Outlines of the objects of the sample collection.

A shape has unit coordinates: x to the right, y down, the object within about [-1, 1] x [-1, 1]. It is a list of parts
in rendering order. Each part has one or more contours, filled by the even-odd rule (a second contour is a hole), and a
surface. Every call samples another object of the class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fss.core.arrays import Float64

Surface = Literal["pattern", "main", "accent", "dark", "light"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of an object: contours ``[N, 2]`` of (x, y) and a surface."""

    contours: tuple[Float64, ...]
    surface: Surface


Shape = Callable[[np.random.Generator], list[Part]]
_ANGLES = np.linspace(0.0, 2 * np.pi, 96, endpoint=False)


def _part(surface: Surface, *contours: Float64) -> Part:
    return Part(contours=contours, surface=surface)


def _polar(radius: npt.NDArray[np.float64] | float, centre: tuple[float, float] = (0.0, 0.0)) -> Float64:
    return np.stack([centre[0] + radius * np.cos(_ANGLES), centre[1] + radius * np.sin(_ANGLES)], axis=1)


def _ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> Float64:
    px, py = rx * np.cos(_ANGLES), ry * np.sin(_ANGLES)
    return np.stack([x + px * np.cos(tilt) - py * np.sin(tilt), y + px * np.sin(tilt) + py * np.cos(tilt)], axis=1)


def _wobble(rng: np.random.Generator, amount: float) -> npt.NDArray[np.float64]:
    """Return a smooth closed curve around 1, one value per angle."""
    total = np.ones_like(_ANGLES)
    for harmonic in range(2, 5):
        total += amount / harmonic * rng.normal() * np.cos(harmonic * _ANGLES + rng.uniform(0, 2 * np.pi))
    return total


def _rounded(corners: list[tuple[float, float]], rounds: int = 2) -> Float64:
    """Round the corners of a polygon by Chaikin's corner cutting; every round doubles the number of points."""
    points = np.asarray(corners, dtype=np.float64)
    for _ in range(rounds):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.8 * points + 0.2 * after, 0.2 * points + 0.8 * after], axis=1).reshape(-1, 2)
    return points


def star(rng: np.random.Generator) -> list[Part]:
    """Five points, fat or slim."""
    inner = rng.uniform(0.42, 0.56)
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2 == 0, 1.0, inner) * rng.uniform(0.93, 1.05, 10)
    corners = list(zip(radii * np.cos(angles), radii * np.sin(angles), strict=True))
    return [_part("pattern", _rounded(corners, 1))]


def mushroom(rng: np.random.Generator) -> list[Part]:
    """A dome on a stem."""
    width, foot, brim = rng.uniform(0.22, 0.34), rng.uniform(0.8, 1.25), rng.uniform(0.0, 0.2)
    stem = _rounded([(-width, 0.0), (width, 0.0), (width * foot, 0.95), (-width * foot, 0.95)])
    arc = np.linspace(np.pi, 2 * np.pi, 40)
    height = rng.uniform(0.8, 1.05)
    dome = np.stack([np.cos(arc), 0.12 + height * np.sin(arc)], axis=1)
    under = np.stack([np.cos(arc[::-1]) * 0.98, 0.12 - brim * np.sin(arc[::-1])], axis=1)
    return [_part("light", stem), _part("pattern", np.concatenate([dome, under]))]


def fish(rng: np.random.Generator) -> list[Part]:
    """A body with a forked tail, a fin and an eye."""
    deep, tail = rng.uniform(0.4, 0.58), rng.uniform(0.38, 0.55)
    x = np.linspace(0.0, 1.0, 40)
    half = deep * np.sin(np.pi * x**0.8) ** 0.8
    body = np.concatenate([np.stack([1.55 * x - 0.6, -half], axis=1), np.stack([1.55 * x - 0.6, half], axis=1)[::-1]])
    fork = _rounded([(-0.42, 0.0), (-1.0, -tail), (-0.84, 0.0), (-1.0, tail)], 1)
    fin = _rounded([(-0.2, -0.8 * deep), (0.1, -1.45 * deep), (0.4, -0.8 * deep)], 1)
    eye = (0.66, -0.12)
    return [
        _part("main", fork),
        _part("main", fin),
        _part("pattern", body),
        _part("light", _ellipse(*eye, 0.1, 0.1)),
        _part("dark", _ellipse(*eye, 0.055, 0.055)),
    ]


def leaf(rng: np.random.Generator) -> list[Part]:
    """A pointed blade along x on a stalk, sometimes serrated."""
    x = np.linspace(-0.8, 1.0, 60)
    along = (x + 0.8) / 1.8
    half = rng.uniform(0.42, 0.62) * np.sin(np.pi * along ** rng.uniform(0.65, 0.95))
    half *= 1 + rng.choice([0.0, 0.07]) * np.sign(np.sin(40 * x))
    bend = rng.uniform(-0.18, 0.18) * np.sin(np.pi * along)
    blade = np.concatenate([np.stack([x, bend - half], axis=1), np.stack([x, bend + half], axis=1)[::-1]])
    stalk = _rounded([(-0.7, -0.045), (-0.7, 0.045), (-1.1, 0.13), (-1.12, 0.04)], 1)
    return [_part("accent", stalk), _part("pattern", blade)]


def mug(rng: np.random.Generator) -> list[Part]:
    """A cylinder with a handle on the right."""
    half, taper = rng.uniform(0.55, 0.68), rng.uniform(0.82, 1.0)
    body = _rounded([(-half, -0.72), (half, -0.72), (half * taper, 0.82), (-half * taper, 0.82)])
    size = rng.uniform(0.34, 0.44)
    handle = [_ellipse(half * 0.95, 0.0, scale * size, scale * size * 1.15) for scale in (1.0, 0.58)]
    rim = _ellipse(0.0, -0.68, half * 0.95, 0.13)
    return [_part("accent", *handle), _part("pattern", body), _part("dark", rim)]


def tree(rng: np.random.Generator) -> list[Part]:
    """A lobed crown on a trunk."""
    lobes, phase = int(rng.integers(6, 10)), rng.uniform(0, 2 * np.pi)
    crown = rng.uniform(0.62, 0.72) * (1 + 0.1 * np.abs(np.sin(lobes / 2 * _ANGLES + phase))) * _wobble(rng, 0.08)
    width = rng.uniform(0.1, 0.17)
    trunk = _rounded([(-width, 0.1), (width, 0.1), (width * 1.5, 1.0), (-width * 1.5, 1.0)], 1)
    return [_part("dark", trunk), _part("pattern", _polar(crown, (0.0, -0.3)))]


def ring(rng: np.random.Generator) -> list[Part]:
    """A doughnut."""
    hole = rng.uniform(0.28, 0.42)
    return [_part("pattern", _polar(0.92 * _wobble(rng, 0.04)), _polar(hole * _wobble(rng, 0.04)))]


def butterfly(rng: np.random.Generator) -> list[Part]:
    """Two pairs of wings and a body."""
    span, lower, tilt = rng.uniform(0.5, 0.6), rng.uniform(0.34, 0.44), rng.uniform(0.4, 0.7)
    parts = []
    for side in (-1.0, 1.0):
        parts.append(_part("pattern", _ellipse(side * 0.42, 0.42, lower, 0.34, side * -0.9)))
        parts.append(_part("pattern", _ellipse(side * 0.52, -0.3, span, 0.4, side * -tilt)))
    return [*parts, _part("dark", _ellipse(0.0, 0.05, 0.1, 0.62))]


def gear(rng: np.random.Generator) -> list[Part]:
    """A toothed wheel with a hole."""
    teeth, depth = int(rng.integers(8, 13)), rng.uniform(0.14, 0.22)
    angles = np.linspace(0.0, 2 * np.pi, 24 * teeth, endpoint=False)
    radius = 0.95 - depth * (0.5 + 0.5 * np.tanh(4 * np.sin(teeth * angles)))
    rim = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    return [_part("pattern", rim, _polar(rng.uniform(0.2, 0.32)))]


def house(rng: np.random.Generator) -> list[Part]:
    """A wall with a door under a gable roof."""
    half, eaves, top = rng.uniform(0.62, 0.75), rng.uniform(0.12, 0.22), rng.uniform(-0.25, -0.1)
    wall = np.array([(-half, top), (half, top), (half, 0.9), (-half, 0.9)])
    roof = np.array([(-half - eaves, top), (0.0, rng.uniform(-1.0, -0.8)), (half + eaves, top)])
    door_x = rng.uniform(-0.3, 0.1)
    door = np.array([(door_x, 0.35), (door_x + 0.26, 0.35), (door_x + 0.26, 0.9), (door_x, 0.9)])
    return [_part("pattern", wall), _part("main", roof), _part("dark", door)]


def crescent(rng: np.random.Generator) -> list[Part]:
    """A moon's sickle, open to the right."""
    start = rng.uniform(0.75, 0.95)
    outer = np.linspace(start, 2 * np.pi - start, 60)
    tip_x, tip_y = np.cos(start), np.sin(start)
    centre = tip_x + rng.uniform(-0.1, 0.15)
    inner_radius = float(np.hypot(tip_x - centre, tip_y))
    reach = np.arctan2(tip_y, tip_x - centre)
    inner = np.linspace(2 * np.pi - reach, reach, 60)
    sickle = np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            np.stack([centre + inner_radius * np.cos(inner), inner_radius * np.sin(inner)], axis=1),
        ]
    )
    return [_part("pattern", sickle + np.array([0.2, 0.0]))]


def flower(rng: np.random.Generator) -> list[Part]:
    """Petals around a centre."""
    petals, depth = int(rng.integers(5, 9)), rng.uniform(0.32, 0.45)
    radius = (0.98 - depth + depth * np.abs(np.cos(petals / 2 * _ANGLES))) * _wobble(rng, 0.03)
    return [_part("pattern", _polar(radius)), _part("accent", _polar(rng.uniform(0.2, 0.28)))]


def bottle(rng: np.random.Generator) -> list[Part]:
    """A body, shoulders and a neck with a stopper."""
    half, neck, shoulder = rng.uniform(0.36, 0.48), rng.uniform(0.12, 0.17), rng.uniform(-0.35, -0.1)
    right = [(neck, -0.85), (neck, shoulder - 0.25), (half, shoulder + 0.1), (half, 0.98)]
    outline = _rounded([*right, *[(-x, y) for x, y in reversed(right)]])
    cap = _rounded([(-neck * 1.25, -1.02), (neck * 1.25, -1.02), (neck * 1.25, -0.8), (-neck * 1.25, -0.8)], 1)
    return [_part("pattern", outline), _part("dark", cap)]


def arrow(rng: np.random.Generator) -> list[Part]:
    """A road sign's arrow along x."""
    half, neck, head = rng.uniform(0.22, 0.32), rng.uniform(0.0, 0.2), rng.uniform(0.6, 0.75)
    upper = [(-1.0, -half), (neck, -half), (neck, -head), (1.0, 0.0)]
    return [_part("pattern", _rounded([*upper, *[(x, -y) for x, y in reversed(upper[:-1])]], 1))]


def heart(rng: np.random.Generator) -> list[Part]:
    """A heart, upright."""
    x = 16 * np.sin(_ANGLES) ** 3
    y = -(13 * np.cos(_ANGLES) - 5 * np.cos(2 * _ANGLES) - 2 * np.cos(3 * _ANGLES) - np.cos(4 * _ANGLES))
    return [_part("pattern", np.stack([x / 16, y / 16 * rng.uniform(0.9, 1.1)], axis=1))]


def shell(rng: np.random.Generator) -> list[Part]:
    """A snail's shell with its opening below."""
    turn = np.linspace(0.0, 2 * np.pi, 90)
    start = rng.uniform(0.6, 0.7)
    radius = start + (0.98 - start) * turn / (2 * np.pi)
    coil = np.stack([radius * np.cos(turn + 0.5), radius * np.sin(turn + 0.5)], axis=1)
    mouth = _ellipse(0.84 * np.cos(0.5), 0.84 * np.sin(0.5), 0.17, 0.27, 0.5)
    return [_part("pattern", coil), _part("dark", mouth)]
