"""Which settings a private run may log: every text field of every job is hidden unless it is marked."""

import dataclasses
import importlib
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from fss.core.config import flatten, settings
from fss.core.privacy import HIDDEN, Public, public_settings, public_value
from tests.helpers.private_settings import SECRET, configs, is_marked, planted


@pytest.mark.parametrize("cls", configs(), ids=lambda cls: cls.__name__)
def test_a_text_of_any_setting_is_hidden_unless_it_is_marked(cls: type[Any]) -> None:
    config, paths = planted(cls())
    shown = {name for name, value in flatten(public_settings(config)).items() if SECRET in str(value)}
    assert len(paths) > 5
    assert {name for name in shown if not is_marked(name)} == set()


@settings
class Inner:
    """Settings within settings."""

    word: Literal["a", "b"] | None = None
    path: Path | None = None


@settings
class Outer:
    """One field of every kind."""

    number: float = 0.5
    flag: bool = True
    words: tuple[Literal["x", "y"], ...] = ("x",)
    text: str = "default"
    either: Literal["pretrained"] | str = "pretrained"
    marked: Annotated[str | None, Public()] = "shown"
    names: tuple[str, ...] = ("n",)
    table: dict[str, int] = dataclasses.field(default_factory=dict)
    inner: Inner = dataclasses.field(default_factory=Inner)


def test_numbers_listed_words_and_marked_texts_are_public() -> None:
    config = Outer(text="t", table={"auntmary": 1}, inner=Inner(word="b", path=Path("/home")))
    assert public_settings(config) == {
        "number": 0.5,
        "flag": True,
        "words": ["x"],
        "text": HIDDEN,
        "either": "pretrained",
        "marked": "shown",
        "names": [HIDDEN],
        "table": HIDDEN,
        "inner": {"word": "b", "path": HIDDEN},
    }
    assert public_settings(Outer(either="elsewhere"))["either"] == HIDDEN


def test_of_values_without_a_type_numbers_and_hashes_are_public() -> None:
    hashes = ["7413524cdbdcb45a", "a" * 32, "b" * 40, "c" * 64, "7413524cdbdcb45a-7413524cdbdcb45a"]
    texts = ["dog", "cafe", "IMG_1", "", "7413524CDBDCB45A", {"dog": 1}]
    assert public_value([1, 0.5, True, None, *hashes, *texts]) == [1, 0.5, True, None, *hashes, *[HIDDEN] * len(texts)]


def test_every_job_that_logs_settings_is_in_the_table() -> None:
    present = set()
    for path in Path("pipelines").rglob("config.py"):
        module = importlib.import_module(".".join(path.with_suffix("").parts))
        for cls in vars(module).values():
            if dataclasses.is_dataclass(cls) and cls.__module__ == module.__name__ and isinstance(cls, type):
                present |= {cls.__name__} if "tracking" in typing.get_type_hints(cls) else set()
    assert {cls.__name__ for cls in configs()} == present
