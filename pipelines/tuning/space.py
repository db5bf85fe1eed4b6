"""Search spaces in words: ``split.tilt=0..0.6``, ``training.learning_rate=1e-4..1e-2 log``, ``segmenter.width=32|64``.

A name is a training's setting with dots, or one of ``ALIASES`` where one number or word stands for several settings.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fss.core.config import flatten, override, to_dict

Values = dict[str, Any]
"""What a trial draws: by the dimension's name."""
T = TypeVar("T")

QUANTILE = "accept.quantile"
"""Share of the masks to train on; becomes an acceptance, made from the stored scores."""

PRESETS: dict[str, dict[str, str]] = {
    "split": {
        "split.direction": "vertical|horizontal|either",
        "split.ratio": "0.2..0.5",
        "split.tilt": "0..0.6",
        "split.margin": "0..0.3",
        "split.ignore_support": "true|false",
    },
    "tasks": {
        "split.component": "true|false",
        "split.distractor": "0..0.8",
    },
    "augment": {
        "augment.crop": "0.3..1",
        "augment.degrees": "0..90",
        "augment.colour": "0..0.4",
        "augment.grey": "0..0.5",
        "augment.blur": "0..0.5",
    },
    "masks": {QUANTILE: "0.25|0.45|0.65|0.85|1"},
    "network": {
        "segmenter.masking": "none|feature|input|hybrid",
        "segmenter.similarity": "true|false",
    },
    "optimisation": {
        "training.learning_rate": "1e-4..1e-2 log",
        "training.weight_decay": "1e-6..1e-3 log",
    },
}
"""Spaces by name; several may be searched at once."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """What one name may be: a range of numbers, or a few choices."""

    name: str
    """The setting, or the alias."""
    low: float = 0.0
    """Least value of a range."""
    high: float = 0.0
    """Largest value of a range."""
    log: bool = False
    """Draw the logarithm uniformly."""
    choices: tuple[Any, ...] = ()
    """The choices; empty for a range. One alone is fixed, not searched."""

    def holds(self, value: Any) -> bool:
        """Tell whether a value is in the dimension."""
        if self.choices:
            return value in self.choices
        return isinstance(value, (int, float)) and self.low <= value <= self.high


def parse(text: str) -> Dimension:
    """Read ``name=low..high``, ``name=low..high log``, ``name=a|b|c`` or ``name=value``.

    Raises:
        ValueError: it is none of these.
    """
    name, equals, words = (part.strip() for part in text.partition("="))
    if not (name and equals and words):
        raise ValueError(f"a dimension is NAME=LOW..HIGH, NAME=LOW..HIGH log, NAME=A|B or NAME=VALUE, got {text!r}")
    low, dots, high = words.removesuffix(" log").partition("..")
    if not dots:
        return Dimension(name=name, choices=tuple(_value(word.strip()) for word in words.split("|")))
    try:
        found = Dimension(name=name, low=float(low), high=float(high), log=words.endswith(" log"))
    except ValueError:
        raise ValueError(f"the ends of {text!r} are not numbers; write {name}=0..0.5") from None
    if not (found.low < found.high and (found.low > 0 or not found.log)):
        raise ValueError(f"{text!r}: the lower end comes first, and is above 0 for log")
    return found


def search_space(presets: Iterable[str], more: Iterable[str] = ()) -> dict[str, Dimension]:
    """Join presets; a later dimension replaces an earlier one of its name.

    Args:
        presets: names in ``PRESETS``.
        more: dimensions in words.

    Raises:
        ValueError: no such preset, something that is no dimension, or nothing to search.
    """
    texts: list[str] = []
    for preset in presets:
        if preset not in PRESETS:
            raise ValueError(f"there is no search space {preset!r}; there are {', '.join(PRESETS)}")
        texts += [f"{name}={words}" for name, words in PRESETS[preset].items()]
    space = {dimension.name: dimension for dimension in map(parse, (*texts, *more))}
    if all(len(dimension.choices) == 1 for dimension in space.values()):
        raise ValueError(f"there is nothing to search: name a space ({', '.join(PRESETS)}) or give dimensions")
    return space


def _direction(word: str) -> Values:
    chances = {"vertical": (1.0, 0.0), "horizontal": (0.0, 1.0), "either": (0.5, 0.5), "none": (0.0, 0.0)}
    if word not in chances:
        raise ValueError(f"split.direction is one of {', '.join(chances)}, got {word!r}")
    return dict(zip(("split.vertical", "split.horizontal"), chances[word], strict=True))


def _colour(strength: float) -> Values:
    return {f"augment.{name}": strength for name in ("brightness", "contrast", "saturation", "hue")}


ALIASES: dict[str, Callable[[Any], Values]] = {
    "split.direction": _direction,
    # Least share of the object before the line: 0.5 is the median cut, 0.2 anything from 0.2 to 0.8.
    "split.ratio": lambda share: {"split.ratio": [share, 1 - share]},
    # Strength of brightness, contrast, saturation and hue together.
    "augment.colour": _colour,
    # Least share of the picture that a view shows.
    "augment.crop": lambda share: {"augment.crop_scale": [share, 1.2]},
    QUANTILE: lambda share: {"acceptance": acceptance_name(share)},
}
"""Names that stand for several settings, or for one in another form."""

_READERS: dict[str, Callable[[Values], Any]] = {
    "split.direction": lambda flat: next(
        (
            word
            for word in ("vertical", "horizontal", "either", "none")
            if all(flat[name] == chance for name, chance in _direction(word).items())
        ),
        None,
    ),
    "split.ratio": lambda flat: flat["split.ratio"][0],
    "augment.colour": lambda flat: flat["augment.brightness"],
    "augment.crop": lambda flat: flat["augment.crop_scale"][0],
    QUANTILE: lambda flat: None,
}


def acceptance_name(quantile: float) -> str:
    """Return the name of the acceptance of a share of the masks."""
    return f"quantile-{quantile:.3f}"


def settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a trial drew as settings of the training, nested."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        for place, setting in ALIASES.get(name, lambda same, name=name: {name: same})(value).items():
            *groups, last = place.split(".")
            target = nested
            for group in groups:
                target = target.setdefault(group, {})
            target[last] = setting
    return nested


def apply(config: T, values: Mapping[str, Any]) -> T:
    """Return a training's configuration with what a trial drew.

    Raises:
        ValueError: a name that the configuration does not have, or values that don't fit each other.
    """
    return override(config, settings(values))


def present(config: Any, space: Mapping[str, Dimension]) -> Values:
    """Return where a configuration lies in a space; dimensions that do not hold its value are left out."""
    flat = flatten(to_dict(config))
    found = {name: _READERS.get(name, lambda all_of, name=name: all_of.get(name))(flat) for name in space}
    return {name: value for name, value in found.items() if space[name].holds(value)}


def _value(word: str) -> Any:
    """Read true, false, null and numbers as what they are; other words stay words."""
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        return word
