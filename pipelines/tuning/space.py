"""Search spaces as text: ``split.tilt=0..0.6``, ``learning-rate=1e-4..1e-2 log``, ``width=32|64``.

The name of a dimension is the flag of a training setting, its path in the configuration, or one of ``ALIASES``, whose
values set several settings at once.
"""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fss.core.config import flatten, override, to_dict
from fss.core.flags import Flag, flags_without_effect, walk_flags
from pipelines.training.config import TrainSettings

Values = dict[str, Any]
"""Drawn values of a trial, by the name of the dimension."""

QUANTILE = "accept-quantile"
"""Share of the masks to train on, which becomes an acceptance by the stored scores."""

PRESETS: dict[str, dict[str, str]] = {
    "split": {
        "split.direction": "vertical|horizontal|either",
        "split.ratio": "0.2..0.5",
        "split.tilt": "0..0.6",
        "split.margin": "0..0.3",
        "split.ignore-support": "true|false",
    },
    "tasks": {
        "split.component": "true|false",
        "split.distractor": "0..0.8",
    },
    "collages": {
        "split.collage": "0..0.9",
        "split.collage-scale": "0.2..0.8",
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
        "masking": "none|feature|input|hybrid",
        "similarity": "true|false",
    },
    "optimisation": {
        "learning-rate": "1e-4..1e-2 log",
        "weight-decay": "1e-6..1e-3 log",
    },
}
"""Search spaces by name; a sweep can join several."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """A dimension of the search space: a range of numbers, or a few choices."""

    name: str
    """Flag of the setting, or alias."""
    low: float = 0.0
    """Least value of a range."""
    high: float = 0.0
    """Largest value of a range."""
    log: bool = False
    """Whether the logarithm is drawn uniformly."""
    whole: bool = False
    """Whether integers are drawn, both ends included."""
    choices: tuple[Any, ...] = ()
    """Choices; empty for a range. A single choice is fixed."""

    def __str__(self) -> str:
        """Return what is drawn, in words."""
        if self.choices:
            words = [json.dumps(value) if isinstance(value, bool) else str(value) for value in self.choices]
            return f"one of {', '.join(words)}" if len(words) > 1 else f"fixed at {words[0]}"
        whole, log = ", whole numbers" if self.whole else "", ", on a logarithmic scale" if self.log else ""
        return f"{self.low:g} to {self.high:g}{whole}{log}"

    def holds(self, value: Any) -> bool:
        """Return whether a value is in the dimension."""
        if self.choices:
            return value in self.choices
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def extremes(self) -> tuple[Any, ...]:
        """Return the choices, or both ends of the range."""
        if self.choices:
            return self.choices
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


def parse(text: str) -> Dimension:
    """Read ``name=low..high``, ``name=low..high log``, ``name=a|b|c`` or ``name=value``.

    Raises:
        ValueError: the text has none of these forms.
    """
    name, equals, words = (part.strip() for part in text.partition("="))
    if not (name and equals and words):
        raise ValueError(f"a dimension is NAME=LOW..HIGH, NAME=LOW..HIGH log, NAME=A|B or NAME=VALUE, got {text!r}")
    low, dots, high = words.removesuffix(" log").partition("..")
    if not dots:
        return Dimension(name=name, choices=tuple(_value(word.strip()) for word in words.split("|")))
    try:
        dimension = Dimension(name=name, low=float(low), high=float(high), log=words.endswith(" log"))
    except ValueError:
        raise ValueError(f"the ends of {text!r} are not numbers; write {name}=0..0.5") from None
    if not (dimension.low < dimension.high and (dimension.low > 0 or not dimension.log)):
        raise ValueError(f"{text!r}: the lower end must come first, and be above 0 for log")
    return dimension


def search_space(train: TrainSettings, presets: Iterable[str], more: Iterable[str] = ()) -> dict[str, Dimension]:
    """Join presets and dimensions; a later dimension replaces an earlier one of the same name.

    Every choice and both ends of every range are checked with the settings ``train``.

    Args:
        train: initial training of the search.
        presets: names in ``PRESETS``.
        more: further dimensions as text.

    Raises:
        ValueError: a preset or setting is unknown, a value is invalid, a dimension has no effect, or all are fixed.
    """
    texts: list[str] = []
    for preset in presets:
        if preset not in PRESETS:
            raise ValueError(f"there is no search space {preset!r}; the spaces are {', '.join(PRESETS)}")
        texts += [f"{name}={words}" for name, words in PRESETS[preset].items()]
    dimensions = [_checked(train, parse(text)) for text in (*texts, *more)]
    space = {dimension.name: dimension for dimension in dimensions}
    if all(len(dimension.choices) == 1 for dimension in space.values()):
        raise ValueError(f"there is nothing to search; give --space ({', '.join(PRESETS)}) or --dimensions")
    for dimension in space.values():
        if (reason := _no_effect(train, dimension, space)) is not None:
            raise ValueError(f"dimension {dimension.name} has no effect: {reason}, or leave it out of the search")
    return space


def _no_effect(train: TrainSettings, dimension: Dimension, space: Mapping[str, Dimension]) -> str | None:
    """Return why a dimension has no effect beside the initial training and any single value of another dimension."""
    drawn = {dimension.name: dimension.extremes()[-1]}
    paths = flatten(settings(train, drawn))
    others = [each for each in space.values() if each != dimension]
    starts: list[Values] = [{}, *({other.name: value} for other in others for value in other.extremes())]
    reason = None
    for values in starts:
        try:
            reasons = flags_without_effect(apply(train, values | drawn))
        except ValueError:  # values that contradict each other
            continue
        if not paths or any(path not in reasons for path in paths):
            return None
        reason = reason or reasons[next(iter(paths))]
    return reason


def _checked(train: TrainSettings, dimension: Dimension) -> Dimension:
    """Name a dimension by the flag of its setting, and check its choices or both ends of its range."""
    if dimension.name not in ALIASES:
        flag = _flag(train, dimension.name)
        dimension = replace(dimension, name=flag.name)
        if not dimension.choices:
            dimension = replace(dimension, whole=_takes_whole_numbers(flag, dimension))
    for value in dimension.extremes():
        try:
            if dimension.name == QUANTILE:
                _check_quantile(value)
            apply(train, {dimension.name: value})
            if dimension.name == "backbone":
                _check_backbone(value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"dimension {dimension.name}: {value!r} does not fit: {error}") from error
    return dimension


def _flag(train: TrainSettings, name: str) -> Flag:
    """Return the setting with a name: its flag, with dashes or underscores, or its path."""
    flags: dict[str, Flag] = {}
    for flag in walk_flags(train):
        flags |= dict.fromkeys((flag.name, flag.name.replace("-", "_"), flag.path), flag)
    if name in flags:
        return flags[name]
    close = difflib.get_close_matches(name, [*flags, *ALIASES], n=3)
    hint = f"; similar names: {', '.join(close)}" if close else ""
    raise ValueError(f"a training has no setting {name!r}{hint}. pipelines.train --help-all lists all settings")


def _takes_whole_numbers(flag: Flag, dimension: Dimension) -> bool:
    """Return whether a range of a setting draws integers.

    Raises:
        ValueError: the setting is not a number, or it is an integer and the ends are not.
    """
    kind = flag.number_type()
    if kind is None:
        raise ValueError(f"{flag.name} is not a number and has no range; list its values: {flag.name}=A|B")
    if kind is int and not (dimension.low.is_integer() and dimension.high.is_integer()):
        raise ValueError(f"{flag.name} takes whole numbers, got the range {dimension.low:g}..{dimension.high:g}")
    return kind is int


def _check_backbone(name: str) -> None:
    from fss.models.backbones.factory import check_backbone_name  # imports torch, which the help does not need

    check_backbone_name(name)


def _check_quantile(share: Any) -> None:
    if not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ValueError("a quantile is a share in (0, 1]")


def _direction(word: str) -> Values:
    chances = {"vertical": (1.0, 0.0), "horizontal": (0.0, 1.0), "either": (0.5, 0.5), "none": (0.0, 0.0)}
    if word not in chances:
        raise ValueError(f"split.direction is one of {', '.join(chances)}, got {word!r}")
    return dict(zip(("split.vertical", "split.horizontal"), chances[word], strict=True))


def _colour(strength: float) -> Values:
    return {f"augment.{name}": strength for name in ("brightness", "contrast", "saturation", "hue")}


ALIASES: dict[str, Callable[[Any], Values]] = {
    "split.direction": _direction,
    # Smallest share of the object on one side of the line: 0.5 cuts at the median, 0.2 between 0.2 and 0.8.
    "split.ratio": lambda share: {"split.ratio": [share, 1 - share]},
    # Smallest side of a picture in a collage, as a share of the image's side.
    "split.collage-scale": lambda side: {"split.collage_scale": [side, 1.0]},
    # Common strength of brightness, contrast, saturation and hue.
    "augment.colour": _colour,
    # Smallest share of the picture in a view.
    "augment.crop": lambda share: {"augment.crop_scale": [share, 1.2]},
    QUANTILE: lambda share: {},
}
"""Names of dimensions that set several settings, or one in another form; each returns settings by their paths."""

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
    "split.collage-scale": lambda flat: flat["split.collage_scale"][0],
    "augment.colour": lambda flat: flat["augment.brightness"],
    "augment.crop": lambda flat: flat["augment.crop_scale"][0],
    QUANTILE: lambda flat: None,
}


def acceptance_name(quantile: float) -> str:
    """Return the name of the acceptance of a share of the masks."""
    return f"quantile-{quantile:.3f}"


def settings(train: TrainSettings, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the drawn values of a trial as nested plain settings of the training."""
    paths = {flag.name: flag.path for flag in walk_flags(train)}
    nested: dict[str, Any] = {}
    for name, value in values.items():
        for path, setting in (ALIASES[name](value) if name in ALIASES else {paths[name]: value}).items():
            *groups, last = path.split(".")
            target = nested
            for group in groups:
                target = target.setdefault(group, {})
            target[last] = setting
    return nested


def apply(train: TrainSettings, values: Mapping[str, Any]) -> TrainSettings:
    """Return the settings of a training with the drawn values of a trial.

    Raises:
        ValueError: a value is invalid, or values contradict each other.
    """
    return override(train, settings(train, values))


def present(train: TrainSettings, space: Mapping[str, Dimension]) -> Values:
    """Return the values of a training in a search space, without the dimensions that do not include its value."""
    flat = flatten(to_dict(train))
    paths = {flag.name: flag.path for flag in walk_flags(train)}
    values = {name: _READERS[name](flat) if name in _READERS else flat[paths[name]] for name in space}
    return {name: value for name, value in values.items() if space[name].holds(value)}


def _value(word: str) -> Any:
    """Parse true, false, null and numbers as JSON; other words are text."""
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        return word
