"""Search spaces in words, and what a draw from them means for a training."""

import pytest

from fss.episodes.config import SplitConfig
from pipelines.training.config import TrainJobConfig
from pipelines.tuning.space import PRESETS, Dimension, apply, parse, present, search_space, settings

BASE = TrainJobConfig(collection="c", output="o")


def test_dimensions_in_words() -> None:
    assert parse("split.tilt=0..0.6") == Dimension(name="split.tilt", low=0.0, high=0.6)
    assert parse("a = 1e-4..1e-2 log") == Dimension(name="a", low=1e-4, high=1e-2, log=True)
    assert parse("a=true|false|null|2|hybrid").choices == (True, False, None, 2, "hybrid")
    assert parse("a=0.3").choices == (0.3,)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("split.tilt", "a dimension is NAME=LOW..HIGH"),
        ("split.tilt=a..b", "are not numbers; write split.tilt=0..0.5"),
        ("split.tilt=0.6..0.1", "the lower end comes first"),
        ("rate=0..1 log", "above 0 for log"),
    ],
)
def test_what_is_no_dimension_is_told(words: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(words)


def test_a_later_dimension_replaces_an_earlier_one() -> None:
    space = search_space(["split", "masks"], ["split.tilt=0.1", "training.steps=5|6"])
    assert list(space) == [*PRESETS["split"], "accept.quantile", "training.steps"]
    assert space["split.tilt"].choices == (0.1,)
    with pytest.raises(ValueError, match="no search space 'cut'; there are split"):
        search_space(["cut"])
    with pytest.raises(ValueError, match="nothing to search"):
        search_space([], ["split.tilt=0.1"])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_the_training(name: str) -> None:
    space = search_space([name])
    ends = [{key: d.choices[0] if d.choices else d.low for key, d in space.items()}]
    ends += [{key: d.choices[-1] if d.choices else d.high for key, d in space.items()}]
    first, last = (apply(BASE, values) for values in ends)
    assert first != last


def test_aliases_become_settings() -> None:
    values = {"split.direction": "either", "split.ratio": 0.25, "split.tilt": 0.1, "augment.colour": 0.3}
    found = apply(BASE, values | {"accept.quantile": 0.5, "segmenter.masking": "hybrid"})
    assert found.split == SplitConfig(vertical=0.5, horizontal=0.5, ratio=(0.25, 0.75), tilt=0.1)
    assert (found.augment.brightness, found.augment.hue, found.augment.grey) == (0.3, 0.3, 0.4)
    assert (found.acceptance, found.segmenter.masking) == ("quantile-0.500", "hybrid")
    with pytest.raises(ValueError, match="TrainJobConfig has no setting speed"):
        apply(BASE, {"speed": 1})
    with pytest.raises(ValueError, match="one of vertical"):
        settings({"split.direction": "round"})


def test_the_starting_point_is_found_in_the_space() -> None:
    space = search_space(["split", "augment", "masks"], ["augment.degrees=0..45", "training.learning_rate=1e-4|1e-3"])
    found = present(BASE, space)
    assert found["split.direction"] == "vertical"
    assert (found["split.ratio"], found["augment.colour"], found["augment.crop"]) == (0.5, 0.2, 0.5)
    assert found["training.learning_rate"] == 1e-4
    assert "augment.degrees" not in found, "90 degrees are not in the space"
    assert apply(BASE, found) == BASE
