"""The settings of all jobs with a secret in every text."""

import copy
import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def is_marked(path: str) -> bool:
    """Tell whether a setting, by its path in the configuration of a job, is marked as public."""
    return any(path == each or path.endswith(f".{each}") for each in MARKED)


def configs() -> Iterator[Any]:
    """Yield the configuration of every job that opens a run."""
    for module, names in JOBS.items():
        for name in names.split():
            yield getattr(importlib.import_module(f"pipelines.{module}"), name)


def planted(config: Any, path: str = "", *, unmarked: bool = False) -> tuple[Any, list[str]]:
    """Return a copy of settings with a secret in every field that is not a number, and the paths of these fields.

    Args:
        config: the settings, whose checks are passed by.
        path: path of the settings in those that they are nested in, with a dot at its end.
        unmarked: leave the marked fields as they are.
    """
    result, paths = copy.copy(config), []
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{path}{field.name}"
        if dataclasses.is_dataclass(value):
            inner, more = planted(value, f"{name}.", unmarked=unmarked)
            object.__setattr__(result, field.name, inner)
            paths += more
        elif (value is None or isinstance(value, str | Path | tuple)) and not (unmarked and is_marked(name)):
            kinds: list[Any] = [f"/home/{SECRET}", f"{SECRET}.jpg", SECRET, (SECRET, f"s3://{SECRET}/x"), Path(SECRET)]
            object.__setattr__(result, field.name, kinds[len(paths) % len(kinds)])
            paths.append(name)
    return result, paths
