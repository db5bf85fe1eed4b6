"""Which settings a private run may log: every text field of every job is hidden unless it is marked."""

import copy
import dataclasses
import importlib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from fss.core.config import flatten, settings
from fss.core.privacy import HIDDEN, Public, public_settings, public_value

SECRET = "auntmary"
JOBS = {
    "end_to_end.config": "MaskSplitJobConfig",
    "evaluation.config": "EvaluateJobConfig",
    "masks.config": "IngestConfig PseudomaskJobConfig AcceptConfig TrainSaliencyConfig",
    "relabeling.config": "RelabelJobConfig",
    "reproduction.config": "ReproduceConfig",
    "self_training.config": "SelfTrainConfig",
    "training.config": "TrainJobConfig",
    "tuning.config": "TuneJobConfig",
}
MARKED = {"segmenter.backbone", "student.backbone", "network.backbone", "rule.scores", "rule.gates", "space"} | {
    *("tracking.experiment", "gate.model", "gate.alias")
}
"""Texts that a private run logs: each is checked against a list before a run opens, or names something in MLflow."""


def configs() -> Iterator[Any]:
    for module, names in JOBS.items():
        for name in names.split():
            yield getattr(importlib.import_module(f"pipelines.{module}"), name)


def planted(config: Any, path: str = "") -> tuple[Any, list[str]]:
    """A copy of settings with a secret in every field that is not a number, whatever its checks, and their paths."""
    result, paths = copy.copy(config), []
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{path}{field.name}"
        if dataclasses.is_dataclass(value):
            inner, more = planted(value, f"{name}.")
            object.__setattr__(result, field.name, inner)
            paths += more
        elif value is None or isinstance(value, str | Path | tuple):
            kinds: list[Any] = [f"/home/{SECRET}", f"{SECRET}.jpg", SECRET, (SECRET, f"s3://{SECRET}/x"), Path(SECRET)]
            object.__setattr__(result, field.name, kinds[len(paths) % len(kinds)])
            paths.append(name)
    return result, paths


@pytest.mark.parametrize("cls", configs(), ids=lambda cls: cls.__name__)
def test_a_text_of_any_setting_is_hidden_unless_it_is_marked(cls: type[Any]) -> None:
    config, paths = planted(cls())
    shown = {name for name, value in flatten(public_settings(config)).items() if SECRET in str(value)}
    assert len(paths) > 5
    assert {name for name in shown if not any(name == each or name.endswith(f".{each}") for each in MARKED)} == set()


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
