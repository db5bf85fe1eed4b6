"""Configurations survive the trip to plain values and back, and their hash follows their content."""

import dataclasses
import re
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge

from fss.core import config


@config.settings
class Inner:
    ratio: Annotated[float, Ge(0)] = 0.5
    span: tuple[float, float] = (0.1, 0.9)


@config.settings
class Outer:
    name: str
    path: Path | None = None
    inner: Inner = field(default_factory=Inner)


def test_a_configuration_survives_json(tmp_path: Path) -> None:
    original = Outer(name="a", path=Path("x/y"), inner=Inner(ratio=1.0, span=(0.2, 0.3)))
    config.save(original, tmp_path / "c.json")
    assert config.load(Outer, tmp_path / "c.json") == original


def test_the_hash_follows_the_content() -> None:
    assert config.config_hash(Outer(name="a")) == config.config_hash(Outer(name="a"))
    assert config.config_hash(Outer(name="a")) != config.config_hash(Outer(name="a", inner=Inner(ratio=0.6)))
    assert config.config_hash(Outer(name="a")) == config.config_hash(config.to_dict(Outer(name="a")))


def test_an_unknown_setting_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no setting ration; its settings are ratio, span"):
        config.from_dict(Inner, {"ration": 1.0})


def test_only_plain_values_are_hashed() -> None:
    with pytest.raises(ValueError, match="plain values only"):
        config.config_hash({"a": object()})


def test_some_settings_are_replaced_by_plain_values() -> None:
    found = config.override(Outer(name="a", inner=Inner(ratio=0.7)), {"path": "x", "inner": {"span": [0, 1]}})
    assert found == Outer(name="a", path=Path("x"), inner=Inner(ratio=0.7, span=(0, 1)))
    with pytest.raises(ValueError, match="Inner has no setting ration"):
        config.override(Outer(name="a"), {"inner": {"ration": 1.0}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"ratio": -1}}, "inner.ratio must be greater than or equal to 0, got -1"),
        ({"inner": {"ratio": "0.5"}}, "inner.ratio must be a valid number, got '0.5'"),
        ({"inner": {"ratio": float("nan")}}, "inner.ratio must be a"),
        ({"inner": {"span": [1.0]}}, "inner.span.1"),
        ({"inner": {"span": "wide"}}, "inner.span must be a list, got 'wide'"),
        ({"name": 3}, "name must be a valid string, got 3"),
        ({"inner": {"ratio": True}}, "inner.ratio must be a valid number, got True"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_what_is_allowed_and_what_came(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        config.override(Outer(name="a"), values)


def test_settings_are_checked_when_they_are_built() -> None:
    with pytest.raises(ValueError, match="ratio"):
        Inner(ratio=-0.1)
    with pytest.raises(ValueError, match="ratio"):
        dataclasses.replace(Inner(), ratio=-0.1)


def test_nested_values_are_flattened_to_dotted_names() -> None:
    assert config.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}
