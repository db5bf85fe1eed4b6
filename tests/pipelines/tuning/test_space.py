"""Search spaces in words, and what a draw from them means for a training."""

import re

import optuna
import pytest

from fss.episodes.config import AugmentConfig, SplitConfig
from fss.models.config import SegmenterConfig
from pipelines.training.config import TrainSettings
from pipelines.tuning.searcher import distribution
from pipelines.tuning.space import PRESETS, Dimension, apply, parse, present, search_space, settings

BASE = TrainSettings()


def test_dimensions_in_words() -> None:
    assert parse("split.tilt=0..0.6") == Dimension(name="split.tilt", low=0.0, high=0.6)
    assert parse("a = 1e-4..1e-2 log") == Dimension(name="a", low=1e-4, high=1e-2, log=True)
    assert parse("a=true|false|null|2|hybrid").choices == (True, False, None, 2, "hybrid")
    assert parse("a=0.3").choices == (0.3,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a=0.2..0.5", "0.2 to 0.5"),
        ("a=1e-4..1e-2 log", "0.0001 to 0.01, on a logarithmic scale"),
        ("a=true|false", "one of true, false"),
        ("a=0.3", "fixed at 0.3"),
    ],
)
def test_a_dry_run_shows_dimensions_in_words(text: str, words: str) -> None:
    assert str(parse(text)) == words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("split.tilt", "a dimension is NAME=LOW..HIGH"),
        ("split.tilt=a..b", "are not numbers; write split.tilt=0..0.5"),
        ("split.tilt=0.6..0.1", "the lower end must come first"),
        ("rate=0..1 log", "above 0 for log"),
    ],
)
def test_what_is_no_dimension_is_told(words: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(words)


def test_a_later_dimension_replaces_an_earlier_one() -> None:
    space = search_space(BASE, ["split", "masks"], ["split.tilt=0.1", "steps=5|6"])
    assert list(space) == [*PRESETS["split"], "accept-quantile", "steps"]
    assert space["split.tilt"].choices == (0.1,)
    with pytest.raises(ValueError, match="no search space 'cut'; the spaces are split"):
        search_space(BASE, ["cut"])
    with pytest.raises(ValueError, match="nothing to search"):
        search_space(BASE, [], ["split.tilt=0.1"])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_the_training(name: str) -> None:
    space = search_space(BASE, [name])
    ends = [{key: d.choices[0] if d.choices else d.low for key, d in space.items()}]
    ends += [{key: d.choices[-1] if d.choices else d.high for key, d in space.items()}]
    first, last = (apply(BASE, values) for values in ends)
    assert first != last or name == "masks", "the quantile becomes an acceptance"


def test_aliases_become_settings() -> None:
    values = {"split.direction": "either", "split.ratio": 0.25, "split.tilt": 0.1, "augment.colour": 0.3}
    found = apply(BASE, values | {"accept-quantile": 0.5, "masking": "hybrid"})
    assert found.split == SplitConfig(vertical=0.5, horizontal=0.5, ratio=(0.25, 0.75), tilt=0.1)
    assert (found.augment.brightness, found.augment.hue, found.augment.grey) == (0.3, 0.3, 0.4)
    assert found.segmenter.masking == "hybrid"
    with pytest.raises(ValueError, match="one of vertical"):
        settings(BASE, {"split.direction": "round"})


def test_the_starting_point_is_found_in_the_space() -> None:
    space = search_space(BASE, ["split", "augment", "masks"], ["augment.degrees=0..45", "learning_rate=0.0001|0.001"])
    found = present(BASE, space)
    assert found["split.direction"] == "vertical"
    assert (found["split.ratio"], found["augment.colour"], found["augment.crop"]) == (0.5, 0.2, 0.5)
    assert found["learning-rate"] == 1e-4
    assert "augment.degrees" not in found, "90 degrees are not in the space"
    assert apply(BASE, found) == BASE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning-rat=1e-4..1e-2", "no setting 'learning-rat'; similar names: learning-rate"),
        ("seed=0..9", "no setting 'seed'"),
        ("optimizer.learning_rat=1e-4..1e-2", "no setting 'optimizer.learning_rat'; similar names: optimizer"),
        ("schedule=cosine|polly", "dimension schedule: 'polly' does not fit"),
        ("segmenter.backbone=resnet18|foo", "dimension backbone: 'foo' does not fit: unknown backbone 'foo'; ch"),
        ("segmenter.width=40|50", "dimension width: 40 does not fit"),
        ("split.ratio=0.2..0.8", "dimension split.ratio: 0.8 does not fit"),
        ("split.tilt=0..-1", "the lower end must come first"),
        ("split.distractor=0..2", "dimension split.distractor: 2.0 does not fit"),
        ("steps=1.5..4", "steps takes whole numbers, got the range 1.5..4"),
        ("steps=0..4", "dimension steps: 0 does not fit"),
        ("steps=4|many", "dimension steps: 'many' does not fit"),
        ("similarity=0..1", "similarity is not a number and has no range; list its values: similarity=A|B"),
        ("backbone=0..1", "backbone is not a number and has no range"),
        ("similarity=true|2", "dimension similarity: 2 does not fit"),
        ("lanes=2|3", "dimension lanes: 3 does not fit"),
        ("accept-quantile=0.5|1.5", "dimension accept-quantile: 1.5 does not fit"),
        ("split.direction=vertical|round", "dimension split.direction: 'round' does not fit"),
    ],
)
def test_a_value_that_the_training_does_not_take_is_refused_before_the_search(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        search_space(BASE, [], [text, "split.tilt=0..0.3"])


def test_a_dimension_without_an_effect_is_refused() -> None:
    hsnet = TrainSettings(segmenter=SegmenterConfig(learner="hsnet"))
    with pytest.raises(ValueError, match=r"dimension width has no effect: it is for .* masksplit, .*leave it out"):
        search_space(hsnet, [], ["width=32|64"])
    for words in ("split.collage-scale=0.2..0.8", "split.collage=0"):
        with pytest.raises(ValueError, match=r"split\.collage-scale has no effect: collage is 0"):
            search_space(BASE, ["split"], ["split.collage-scale=0.2..0.8", words])
    assert set(search_space(BASE, ["collages"])) == {"split.collage", "split.collage-scale"}
    assert "width" in search_space(hsnet, [], ["width=32|64", "learner=hsnet|masksplit"])
    off = TrainSettings(augment=AugmentConfig(enabled=False))
    with pytest.raises(ValueError, match=r"dimension augment\.crop has no effect: augment\.enabled is off"):
        search_space(off, ["augment"])


@pytest.mark.parametrize("name", ["learning-rate", "learning_rate", "optimizer.learning_rate"])
def test_a_setting_is_named_by_its_flag_or_its_path(name: str) -> None:
    (dimension,) = search_space(BASE, [], [f"{name}=1e-4..1e-2 log"]).values()
    assert dimension.name == "learning-rate"
    assert apply(BASE, {dimension.name: 0.002}).optimizer.learning_rate == 0.002


def test_a_range_of_a_whole_number_draws_whole_numbers() -> None:
    space = search_space(BASE, [], ["accumulate=1..4", "width=32..128 log", "clip=0.5..5"])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [study.ask({name: distribution(each) for name, each in space.items()}).params for _ in range(60)]
    draws = {name: {each[name] for each in drawn} for name in space}
    assert draws["accumulate"] == {1, 2, 3, 4}
    assert all(isinstance(value, int) for value in draws["accumulate"] | draws["width"])
    assert all(isinstance(value, float) for value in draws["clip"])
    assert present(TrainSettings(segmenter=SegmenterConfig(width=64)), space) == {"accumulate": 1, "width": 64}
