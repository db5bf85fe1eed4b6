"""Configurations survive the trip to plain values and back, and their hash follows their content."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fss.core import config


@dataclass(frozen=True, kw_only=True)
class Inner:
    ratio: float = 0.5
    span: tuple[float, float] = (0.1, 0.9)


@dataclass(frozen=True, kw_only=True)
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
