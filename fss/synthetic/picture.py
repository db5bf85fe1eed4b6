"""A synthetic sample collection, rendered on demand, without download or licence and with exact ground truth.

It has sixteen classes of objects (ten base, six novel) with different outlines, patterns and colours on cluttered
backgrounds. *Unlabelled* images mostly show one base object and serve self-supervised training. *Labelled* images show
two or three objects of different classes, at least one novel and one base, so the target depends on the support. An
image is a pure function of (index, seed, kind), so parts can be rendered independently, on any machine, in any order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from fss.core.rng import keyed_rng
from fss.synthetic.classes import SPECIES, SampleClass
from fss.synthetic.scene import finish, paint_background, paint_object

Kind = Literal["unlabelled", "labelled"]
KINDS: tuple[Kind, ...] = ("unlabelled", "labelled")

SAMPLE_CLASSES: dict[int, str] = {species.id: species.name for species in SPECIES}
"""Class names by id."""
SAMPLE_SPLITS: dict[str, list[int]] = {
    split: [species.id for species in SPECIES if species.split == split] for split in ("base", "novel")
}
"""Class ids of the base split (training) and of the novel split (evaluation only)."""

SIDES = (160, 200)
"""Smallest and largest height and width in pixels."""
JPEG_QUALITY = 92
_RADII = {0: (0.0, 0.0), 1: (0.23, 0.36), 2: (0.21, 0.29), 3: (0.18, 0.23)}
"""Range of the radius of an object as a fraction of the shorter side, by the number of objects in the image."""


@dataclass(frozen=True, kw_only=True)
class SampleImage:
    """One sample image with its ground truth."""

    relative_path: str
    """Relative path in a folder of such images: ``<kind>/<index>.jpg``."""
    jpeg: bytes
    """Image encoded as JPEG."""
    mask: npt.NDArray[np.uint8]
    """Class ids, uint8 ``[H, W]``; 0 is background."""
    classes: tuple[int, ...]
    """Class ids in the image in ascending order."""


def render_sample_image(index: int, seed: int, kind: Kind) -> SampleImage:
    """Render image ``index`` of the sample collection with the given seed and kind.

    Raises:
        ValueError: the index is negative or the kind is unknown.
    """
    if index < 0:
        raise ValueError(f"the index of a sample image must be at least 0, got {index}")
    if kind not in KINDS:
        raise ValueError(f"the kind of a sample image must be {' or '.join(KINDS)}, got {kind!r}")
    item = f"{kind}/{index}"
    layout = keyed_rng(seed, item=item, purpose="sample.layout")
    height, width = (int(side) for side in layout.integers(SIDES[0], SIDES[1] + 1, 2))
    species = _choose_unlabelled(layout) if kind == "unlabelled" else _choose_labelled(layout, index)
    circles = _place_objects(layout, len(species), height, width)
    picture = paint_background(keyed_rng(seed, item=item, purpose="sample.background"), height, width)
    mask = np.zeros((height, width), dtype=np.uint8)
    objects = keyed_rng(seed, item=item, purpose="sample.objects")
    for one, (x, y, radius) in zip(species, circles, strict=True):
        coverage = paint_object(picture, one, objects, centre=(x, y), radius=radius)
        mask[coverage >= 0.5] = one.id
    rgb = finish(keyed_rng(seed, item=item, purpose="sample.finish"), picture)
    success, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert success, "OpenCV could not encode a JPEG"
    classes = tuple(sorted(one.id for one in species))
    return SampleImage(relative_path=f"{kind}/{index:06d}.jpg", jpeg=jpeg.tobytes(), mask=mask, classes=classes)


def sample_unlabelled(count: int, seed: int) -> Iterator[SampleImage]:
    """Render images 0 .. count - 1 for training: 82 % show one base object, 13 % two and 5 % none."""
    return (render_sample_image(index, seed, "unlabelled") for index in range(count))


def sample_labelled(count: int, seed: int) -> Iterator[SampleImage]:
    """Render images 0 .. count - 1 for evaluation: two or three objects of different classes, base and novel."""
    return (render_sample_image(index, seed, "labelled") for index in range(count))


def _choose_unlabelled(rng: np.random.Generator) -> list[SampleClass]:
    base = [species for species in SPECIES if species.split == "base"]
    number = int(rng.choice([0, 1, 2], p=[0.05, 0.82, 0.13]))
    return [base[index] for index in rng.permutation(len(base))[:number]]


def _choose_labelled(rng: np.random.Generator, index: int) -> list[SampleClass]:
    """Choose two or three classes; the index cycles through novel and base classes, so all are equally frequent."""
    base, novel = ([species for species in SPECIES if species.split == split] for split in ("base", "novel"))
    first, second = novel[index % len(novel)], base[index // len(novel) % len(base)]
    rest = [species for species in SPECIES if species.id not in (first.id, second.id)]
    third = [rest[int(rng.integers(len(rest)))]] if rng.random() < 0.5 else []
    species = [first, second, *third]
    return [species[position] for position in rng.permutation(len(species))]


def _place_objects(rng: np.random.Generator, number: int, height: int, width: int) -> list[tuple[float, float, float]]:
    """Return (x, y, radius) in pixels of each object, all inside the image: the best separated of up to 24 attempts."""
    short = min(height, width)
    best: tuple[float, list[tuple[float, float, float]]] = (-np.inf, [])
    for _ in range(1 if number < 2 else 24):
        circles = []
        for radius in rng.uniform(*_RADII[number], number) * short:
            x, y = (rng.uniform(radius * 1.02, side - radius * 1.02) for side in (width, height))
            circles.append((float(x), float(y), float(radius)))
        gaps = [
            float(np.hypot(a[0] - b[0], a[1] - b[1]) - a[2] - b[2])
            for position, a in enumerate(circles)
            for b in circles[:position]
        ]
        gap = min(gaps, default=np.inf)
        if gap > best[0]:
            best = (gap, circles)
        if gap > 0.02 * short:
            break
    return best[1]
