"""Settings of episodes: how masks are split and how views are drawn."""

from dataclasses import dataclass
from typing import Literal

Benchmark = Literal["pascal", "coco", "coco-to-pascal", "fss"]


Order = Literal["interleaved", "consecutive"]


ProtocolName = Literal["ours", "hsnet", "ifsl", "masksplit"]


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How a mask is cut in two."""

    vertical: float = 1.0
    """Probability of a cut along the columns (the line runs from top to bottom)."""
    horizontal: float = 0.0
    """Probability of a cut along the rows; the rest of the images are not cut: both masks are the whole object."""
    tilt: float = 0.2
    """Largest displacement of the line's ends, as a fraction of the object's extent across the line."""
    ratio: tuple[float, float] = (0.5, 0.5)
    """Range of the share of the object that lies before the line's middle; (0.5, 0.5) is the median cut."""
    margin: float = 0.0
    """Width of the band along the line that belongs to neither half and is ignored, as a fraction of the object's
    extent across the line."""
    alternate: bool = True
    """Let a fair coin decide which half is the support; otherwise always the first."""
    ignore_support: bool = True
    """Ignore the support half in the query's target; otherwise it is part of the object to find."""
    component: bool = False
    """Cut one connected component per task and ignore the others, instead of everything salient at once."""
    min_half: float = 0.0025
    """Smallest share of the image that each half must cover."""
    attempts: int = 8
    """Draws before the straight median cut is taken."""
    distractor: float = 0.0
    """Probability of pasting another photograph's object into the query, as background, so that the support decides."""
    as_released: bool = False
    """Repeat the defects of the released code: tilt of 40 native pixels, mirrored line, at least 512 'pixels'."""

    def __post_init__(self) -> None:
        if min(self.vertical, self.horizontal) < 0 or self.vertical + self.horizontal > 1:
            raise ValueError(
                "vertical and horizontal are probabilities that sum to at most 1, "
                f"got {self.vertical}, {self.horizontal}"
            )
        if not 0 <= self.distractor <= 1:
            raise ValueError(f"distractor is a probability, got {self.distractor}")
        if not 0 < self.ratio[0] <= self.ratio[1] < 1:
            raise ValueError(f"ratio is a range within (0, 1), lower end first, got {self.ratio}")
        if not 0 <= self.margin < 1 or (self.margin and self.as_released):
            raise ValueError(f"margin is a fraction within [0, 1), and the released code has none; got {self.margin}")
        if self.tilt < 0 or self.attempts < 1 or not 0 < self.min_half < 0.5:
            raise ValueError(
                f"tilt is >= 0, attempts >= 1 and min_half within (0, 0.5); "
                f"got {self.tilt}, {self.attempts}, {self.min_half}"
            )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Strengths and probabilities of the augmentation, drawn for support and query independently."""

    enabled: bool = True
    """Augment; otherwise every view is the plain picture, squashed to the image size."""
    crop_scale: tuple[float, float] = (0.5, 1.2)
    """Range of the crop's share of the picture; what does not fit is clamped to the whole side."""
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    """Range of the crop's width over its height, in pixels of the picture."""
    horizontal_flip: float = 0.5
    """Probability of mirroring left and right."""
    vertical_flip: float = 0.5
    """Probability of mirroring top and bottom."""
    rotate: float = 0.5
    """Probability of a rotation."""
    degrees: float = 90.0
    """Largest rotation, either way."""
    jitter: float = 0.5
    """Probability of changing brightness, contrast, saturation and hue together."""
    brightness: float = 0.2
    """Largest relative change of the brightness."""
    contrast: float = 0.2
    """Largest relative change of the contrast."""
    saturation: float = 0.2
    """Largest relative change of the saturation."""
    hue: float = 0.2
    """Largest shift of the hue, in turns of the colour circle; at most 0.5."""
    blur: float = 0.5
    """Probability of a Gaussian blur with a kernel of 3, 5 or 7 pixels."""
    grey: float = 0.4
    """Probability of a grey picture."""
    keep: float = 0.25
    """Smallest share of the object that a view shows, as compared with the plain picture."""
    attempts: int = 8
    """Draws of a crop and rotation before a crop that contains the object is taken."""

    def __post_init__(self) -> None:
        chances = ("horizontal_flip", "vertical_flip", "rotate", "jitter", "blur", "grey", "keep")
        wrong = [name for name in chances if not 0 <= getattr(self, name) <= 1]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: expected a number within [0, 1], got {getattr(self, wrong[0])}")
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is a range above 0, lower end first, got {low}, {high}")
        if not 0 <= self.hue <= 0.5 or not all(0 <= v <= 1 for v in (self.brightness, self.contrast, self.saturation)):
            raise ValueError("brightness, contrast and saturation lie within [0, 1] and hue within [0, 0.5]")


OFF = AugmentConfig(enabled=False)
