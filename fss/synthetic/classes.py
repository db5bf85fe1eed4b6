"""Classes of the sample collection, each defined by an outline, a pattern and two colour ranges.

Colours are HSV ranges: hue in degrees, saturation and value in [0, 1]. Every object samples its main and accent colour
from the ranges of its class.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fss.synthetic import shapes as shapes
from fss.synthetic import textures as textures

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Colour:
    """Range of colours."""

    hue: Range
    saturation: Range
    value: Range

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Sample one colour as RGB in [0, 1], float32 ``[3]``."""
        return hsv(rng.uniform(*self.hue), rng.uniform(*self.saturation), rng.uniform(*self.value))


def hsv(hue: float, saturation: float, value: float) -> npt.NDArray[np.float32]:
    """Convert a hue in degrees (any multiple of a turn), a saturation and a value in [0, 1] to RGB, float32 ``[3]``."""
    share = (np.array([5.0, 3.0, 1.0]) + hue / 60.0) % 6.0
    ramp = np.clip(np.minimum(share, 4.0 - share), 0.0, 1.0)
    return (value - value * saturation * ramp).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class SampleClass:
    """One class of objects."""

    id: int
    name: str
    split: Literal["base", "novel"]
    shape: shapes.Shape
    pattern: textures.Pattern
    main: Colour
    accent: Colour
    turn: float = 30.0
    """Largest rotation in either direction, in degrees."""


def _colour(hue: Range, saturation: Range, value: Range) -> Colour:
    return Colour(hue=hue, saturation=saturation, value=value)


_WHITE = _colour((30, 60), (0.0, 0.1), (0.9, 1.0))
_INK = _colour((0, 360), (0.1, 0.4), (0.06, 0.2))

_SPECIES: tuple[tuple[str, Literal["base", "novel"], shapes.Shape, textures.Pattern, Colour, Colour, float], ...] = (
    ("star", "base", shapes.star, textures.facets, _colour((42, 54), (0.75, 0.95), (0.9, 1.0)),
     _colour((28, 40), (0.8, 1.0), (0.65, 0.8)), 180),
    ("mushroom", "base", shapes.mushroom, textures.dots, _colour((350, 372), (0.8, 0.95), (0.7, 0.9)), _WHITE, 25),
    ("fish", "base", shapes.fish, textures.scales, _colour((195, 222), (0.65, 0.9), (0.6, 0.85)),
     _colour((180, 200), (0.15, 0.4), (0.85, 1.0)), 40),
    ("leaf", "base", shapes.leaf, textures.veins, _colour((95, 130), (0.6, 0.85), (0.45, 0.7)),
     _colour((70, 95), (0.4, 0.6), (0.8, 0.95)), 180),
    ("mug", "base", shapes.mug, textures.bands, _WHITE, _colour((218, 242), (0.6, 0.85), (0.35, 0.6)), 15),
    ("tree", "base", shapes.tree, textures.foliage, _colour((110, 150), (0.6, 0.85), (0.2, 0.35)),
     _colour((80, 115), (0.5, 0.75), (0.55, 0.75)), 12),
    ("ring", "base", shapes.ring, textures.sprinkles, _colour((322, 345), (0.35, 0.55), (0.9, 1.0)), _WHITE, 180),
    ("butterfly", "base", shapes.butterfly, textures.wings, _colour((18, 34), (0.85, 1.0), (0.9, 1.0)), _INK, 60),
    ("gear", "base", shapes.gear, textures.brushed, _colour((200, 240), (0.03, 0.12), (0.3, 0.42)),
     _colour((200, 240), (0.0, 0.08), (0.8, 0.95)), 180),
    ("house", "base", shapes.house, textures.bricks, _colour((8, 22), (0.55, 0.75), (0.45, 0.65)),
     _colour((30, 45), (0.1, 0.2), (0.75, 0.9)), 8),
    ("crescent", "novel", shapes.crescent, textures.craters, _colour((245, 268), (0.2, 0.4), (0.75, 0.92)),
     _colour((245, 268), (0.35, 0.5), (0.4, 0.55)), 180),
    ("flower", "novel", shapes.flower, textures.rays, _colour((292, 318), (0.7, 0.95), (0.65, 0.9)),
     _colour((44, 56), (0.5, 0.8), (0.95, 1.0)), 180),
    ("bottle", "novel", shapes.bottle, textures.glass, _colour((164, 184), (0.65, 0.9), (0.35, 0.55)),
     _colour((150, 175), (0.05, 0.25), (0.9, 1.0)), 40),
    ("arrow", "novel", shapes.arrow, textures.hazard, _colour((48, 58), (0.85, 1.0), (0.9, 1.0)), _INK, 180),
    ("heart", "novel", shapes.heart, textures.plaid, _colour((345, 362), (0.7, 0.9), (0.55, 0.75)),
     _colour((30, 48), (0.15, 0.35), (0.9, 1.0)), 30),
    ("shell", "novel", shapes.shell, textures.spiral, _colour((28, 40), (0.3, 0.5), (0.8, 0.95)),
     _colour((16, 28), (0.55, 0.75), (0.35, 0.5)), 60),
)  # fmt: skip

SPECIES: tuple[SampleClass, ...] = tuple(
    SampleClass(id=number, name=name, split=split, shape=shape, pattern=pattern, main=main, accent=accent, turn=turn)
    for number, (name, split, shape, pattern, main, accent, turn) in enumerate(_SPECIES, start=1)
)
"""All classes in the order of their ids, which start at 1."""
