"""Settings of episodes: how masks are split and how views are drawn."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval

from fss.core.config import settings, to_dict, without_added

Benchmark = Literal["pascal", "coco", "coco-to-pascal", "fss"]
Order = Literal["interleaved", "consecutive"]
ProtocolName = Literal["ours", "hsnet", "ifsl", "masksplit"]
DrawMode = Literal["balanced", "entries"]
_PROTOCOLS = {
    "ours": "every class equally often (protocol ours)",
    "hsnet": "drawn like the published code of HSNet and VAT (protocol hsnet)",
    "ifsl": "drawn like the published code of ASNet (protocol ifsl)",
    "masksplit": "drawn like the published code of MaskSplit (protocol masksplit)",
}
_LISTS = {"given": ", from published lists", "derived": ", from lists derived from the masks"}
_Share = Annotated[float, Interval(ge=0, le=1)]
_STRENGTHS = {
    "cropped": ("crop_scale", "crop_ratio"),
    "rotate": ("degrees",),
    "jitter": ("brightness", "contrast", "saturation", "hue"),
}
"""Settings of an augmentation by its probability."""


_Inside = Annotated[float, Interval(gt=0, lt=1)]
_Side = Annotated[float, Interval(gt=0, le=1)]


@settings
class SplitConfig:
    """How a mask is cut in two."""

    vertical: _Share = 1.0
    """Probability of a cut along the columns (the line runs from top to bottom)."""
    horizontal: _Share = 0.0
    """Probability of a cut along the rows; the remaining masks are not cut and both halves are the whole object."""
    tilt: Annotated[float, Ge(0)] = 0.2
    """Largest displacement of the line's ends, as a fraction of the object's extent across the line."""
    ratio: tuple[_Inside, _Inside] = (0.5, 0.5)
    """Range of the share of the object that lies before the line's middle; (0.5, 0.5) is the median cut."""
    margin: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Width of the band along the line that belongs to neither half and is ignored, as a fraction of the object's
    extent across the line."""
    alternate: bool = True
    """Let a fair coin decide which half is the support; otherwise the first half always is."""
    ignore_support: bool = True
    """Ignore the support half in the query's target; otherwise it is part of the object to find."""
    component: bool = False
    """Cut one connected component per task and ignore the others, instead of everything salient at once."""
    min_half: Annotated[float, Interval(gt=0, lt=0.5)] = 0.0025
    """Smallest share of the image that each half must cover."""
    attempts: Annotated[int, Ge(1)] = 8
    """Draws before the straight median cut is taken."""
    distractor: _Share = 0.0
    """Probability of pasting another photograph's object into the query, as background, so that the support decides."""
    collage: _Share = 0.0
    """Probability of showing a picture smaller, among other photographs whose objects are background; query and support
    have draws of their own, and the photographs are those of the same lane (see lanes)."""
    collage_scale: tuple[_Side, _Side] = (0.3, 1.0)
    """Range of the side of a picture in a collage, as a share of the image's side; no half gets smaller than
    --split.min-half by it."""
    as_released: bool = False
    """Repeat the defects of the released code: tilt of 40 native pixels, mirrored line, at least 512 'pixels'."""

    def __post_init__(self) -> None:
        if self.vertical + self.horizontal > 1:
            raise ValueError(
                "vertical and horizontal are probabilities that sum to at most 1, "
                f"got {self.vertical}, {self.horizontal}"
            )
        if self.ratio[0] > self.ratio[1]:
            raise ValueError(f"ratio is a range within (0, 1), lower end first, got {self.ratio}")
        if self.collage_scale[0] > self.collage_scale[1]:
            raise ValueError(f"collage_scale is a range within (0, 1], lower end first, got {self.collage_scale}")
        if self.margin and self.as_released:
            raise ValueError(f"margin is 0 with as_released, because the released code has none; got {self.margin}")

    def identity(self) -> dict[str, Any]:
        """Return the settings as plain values for a hash, without those that fss 0.2 lacked at their defaults."""
        return without_added(self, ("collage", "collage_scale"))

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reasons = {}
        if self.vertical + self.horizontal == 0:
            reason = "vertical and horizontal are 0, so no mask is cut; give a larger --split.vertical"
            reasons = dict.fromkeys(("tilt", "ratio", "margin", "alternate", "ignore_support"), reason)
        if self.as_released:
            reasons["tilt"] = "as_released moves the ends of the line by up to 40 pixels; give --split.no-as-released"
        if self.collage == 0:
            reasons["collage_scale"] = "collage is 0, so there is no collage; give a larger --split.collage"
        return reasons


@settings
class AugmentConfig:
    """Strengths and probabilities of the augmentation, drawn for support and query independently."""

    enabled: bool = True
    """Augment; otherwise every view is the plain picture, squashed to the image size."""
    cropped: _Share = 1.0
    """Probability of a crop; otherwise the view shows the whole picture."""
    crop_scale: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (0.5, 1.2)
    """Range of the crop's share of the picture; a side that does not fit is clamped to the whole side."""
    crop_ratio: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (0.75, 4 / 3)
    """Range of the crop's width over its height, in pixels of the picture."""
    horizontal_flip: _Share = 0.5
    """Probability of mirroring left and right."""
    vertical_flip: _Share = 0.5
    """Probability of mirroring top and bottom."""
    rotate: _Share = 0.5
    """Probability of a rotation."""
    degrees: float = 90.0
    """Largest rotation in either direction, in degrees."""
    jitter: _Share = 0.5
    """Probability of changing brightness, contrast, saturation and hue together."""
    brightness: _Share = 0.2
    """Largest relative change of the brightness."""
    contrast: _Share = 0.2
    """Largest relative change of the contrast."""
    saturation: _Share = 0.2
    """Largest relative change of the saturation."""
    hue: Annotated[float, Interval(ge=0, le=0.5)] = 0.2
    """Largest shift of the hue, in turns of the colour circle; at most 0.5."""
    blur: _Share = 0.5
    """Probability of a Gaussian blur with a kernel of 3, 5 or 7 pixels."""
    grey: _Share = 0.4
    """Probability of a grey picture."""
    tones: _Share = 0.0
    """Probability of each of VAT's changes, before all others: grey, 16 levels, equalised, sharper, another brightness
    and contrast, bright tones inverted. Above 0, the jitter changes the colours in random order."""
    keep: _Share = 0.25
    """Smallest share of the object that a view shows, compared with the plain picture."""
    attempts: Annotated[int, Ge(0)] = 8
    """Draws of a crop and rotation before a crop that contains the object is taken."""

    def __post_init__(self) -> None:
        for name, (low, high) in (("crop_scale", self.crop_scale), ("crop_ratio", self.crop_ratio)):
            if low > high:
                raise ValueError(f"{name} is a range above 0, lower end first, got {low}, {high}")

    def identity(self) -> dict[str, Any]:
        """Return the settings as plain values for a hash, without those that fss 0.2 lacked at their defaults."""
        return without_added(self, ("cropped", "tones"))

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        if not self.enabled:
            reason = "augment.enabled is off, so every view is the plain picture; give --augment.enabled"
            return {name: reason for name in to_dict(self) if name != "enabled"}
        return {
            name: f"{probability} is 0; give a larger --augment.{probability}"
            for probability, names in _STRENGTHS.items()
            for name in names
            if getattr(self, probability) == 0
        }


OFF = AugmentConfig(enabled=False)
VAT_TONES = AugmentConfig(
    tones=0.2, jitter=0.2, cropped=0.0, horizontal_flip=0.0, vertical_flip=0.0, rotate=0.0, blur=0.0, grey=0.0
)
"""VAT's changes of the tones and colours, each with probability 0.2, without a crop, flip or rotation."""


def describe_protocol(name: str) -> str:
    """Return how a protocol chooses episodes, in words; ``-given`` and ``-derived`` name the origin of its lists."""
    base, _, lists = name.partition("-")
    return _PROTOCOLS.get(base, name) + _LISTS.get(lists, "")
