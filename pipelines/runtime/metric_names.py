"""Names of metrics in MLflow, whose pages show one section of charts for each group: the text before the last slash.

    train/              curves of the training: loss, gradient norm, epoch
    val/                curves of the validation, and the objective of a sweep
    kept/               validation of the model that was kept
    speed/              steps, episodes and images per second, waiting for data
    eval/<n>-shot/      the model on labelled images; its baselines in eval/<n>-shot/baselines/
    total/, result/     counts, and other numbers of the result of a job

Metrics of a round or stage are below its name, such as ``round-1/eval/1-shot/mIoU``. ``summary.json`` has other names:
``1-shot/model/mIoU``.
"""

import re
from collections.abc import Mapping
from typing import Any

MODEL = "model"
"""The method of an evaluation that is the evaluated model; all others are baselines."""
BASELINES = "/baselines/"
"""Part of the names of metrics that are not of the model."""
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_./@-]+")
_OF_METHOD = re.compile(r"(?P<shots>\d+-shot)/(?P<method>[^/]+)/(?P<metric>.+)")
_GROUPS = (
    (re.compile(r"(\d+-shot) (.+)"), r"eval/\1/\2"),
    (re.compile(r"kept\.(.+)"), r"kept/\1"),
    (re.compile(r"((last |best )?(held_out|val)_.+)"), r"kept/\1"),
    (re.compile(r"(.+ per second)"), r"speed/\1"),
    (re.compile(r"importance of (.+)"), r"importance/\1"),
    (re.compile(r"(.+)"), r"result/\1"),
)
"""Groups of the names of results, the first that fits."""


def logged_metrics(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers among ``values`` under names that MLflow accepts.

    All characters except letters, digits and ``_ . / @ -`` become underscores, and a name is a relative path in its
    simplest form.
    """
    numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
    return {f"{prefix}{_allowed(name)}": float(value) for name, value in numbers.items()}


def result_metrics(counts: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the counts and metrics of a job's result under their names in MLflow."""
    grouped = {grouped_name(name): value for name, value in metrics.items()}
    return logged_metrics(counts, prefix="total/") | logged_metrics(grouped)


def method_metrics(metrics: Mapping[str, Any], method: str) -> dict[str, float]:
    """Return the metrics of one method of an evaluation, under the names that the model's have in its own run."""
    matches = {name: _OF_METHOD.fullmatch(name) for name in metrics}
    return logged_metrics(
        {
            f"eval/{match['shots']}/{match['metric']}": metrics[name]
            for name, match in matches.items()
            if match and match["method"] == method
        }
    )


def grouped_name(name: str) -> str:
    """Return the name of a result in MLflow; that of a stage, before a colon, becomes the first part of it."""
    *stages, last = name.split(": ")
    return "/".join([*stages, _grouped(last)])


def validation_name(metric: str) -> str:
    """Return the name of a curve of the validation."""
    return f"val/{metric.removeprefix('val_')}"


def _grouped(name: str) -> str:
    if match := _OF_METHOD.fullmatch(name):
        group = f"eval/{match['shots']}"
        if match["method"] == MODEL:
            return f"{group}/{match['metric']}"
        return f"{group}{BASELINES}{match['metric']}.{match['method']}"
    return next(pattern.sub(form, name) for pattern, form in _GROUPS if pattern.fullmatch(name))


def _allowed(name: str) -> str:
    words = _NOT_ALLOWED.sub("_", name).strip("_").split("/")
    return "/".join(word for word in words if word.strip("."))
