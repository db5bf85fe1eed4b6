"""What a private run may write besides its settings: listed names with values of a listed form, and nothing else.

Names and values that are not listed never reach the store. A new metric or tag is therefore missing from private runs
until it is listed here.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from fss.core.privacy import HIDDEN, public_value
from fss.core.system import environment_tags

_HASH = r"[0-9a-f-]{16,81}"
_DATA = r"(collection|mask_set|acceptance|contents|val_(plan|mask_set|contents)|train_(classes|rows)|student)(\.\d+)?"
_JOBS = r"masksplit|ingest|pseudomask|accept|train_saliency|train|relabel|evaluate|tune|selftrain|lineage|reproduce"
TAGS = {
    r"fss\.(key|weights|saliency_prior|model|plan|plan_\d+shot)": rf"{_HASH}|pretrained|None",
    rf"fss\.{_DATA}": _HASH,
    r"fss\.job": _JOBS,
    r"fss\.learner": r"masksplit|hsnet|asnet|vat|density",
    r"fss\.ahead_of_all": r"yes|no",
    r"fss\.method": r"all foreground|saliency of the query|untrained prototype|density (ratio|prior), untrained",
    r"fss\.(best_trial|best_run|sweep)|ray\.trial_id": r"[0-9a-f_]{1,40}",
    r"fss\.trial": r"running|completed|pruned|failed|stopped",
    r"fss\.gate": r"passed|failed",
    r"fss\.(miou|held_out_\w+)": r"-?[\d.]+",
    r"mlflow\.parentRunId": _HASH,
    r"fss\.local_run": r"local-[0-9a-f_-]+",
    r"mlflow\.source\.name": rf"pipelines\.({_JOBS})",
    r"mlflow\.source\.type": r"LOCAL",
    r"mlflow\.source\.git\.commit": rf"{_HASH}(-dirty)?",
}
"""Tags by the pattern of their name, with the pattern of their value; those of the environment are public besides."""
_ERROR = re.compile(r"[A-Z]\w{0,60}(Error|Exception|Interrupt|Exit)(?=:|$)")
_BASELINES = r"all_foreground|saliency_of_the_query|untrained_prototype|density_(ratio|prior)_untrained"
_OF_METHOD = r"(mIoU|FB-IoU|per-episode_mIoU)"
_OF_MODEL = r"mIoU_of_(small|medium|large)_objects|passes_per_query"
_SURENESS = r"sureness\.(spearman|calibration_error|separation|threshold|episodes|present_lost|absent_empty(_at_lost)?)"
_HELD_OUT = r"(held_out_|val_)?(loss|f?b?_?iou|miou|episode_iou|episode_miou)"
_REASONS = (
    r"corrupt|empty|faulty|truncated|unsupported|unknown-format|unreadable|too-many-(pixels|scans|bytes|frames)"
    r"|side-too-(long|short)|missing-mask|class-ids|no-object|size|too-large|too_small"
)
METRICS = re.compile(
    r"(total/)?((photographs|evaluation_pictures|student|round[_-]\d+|stage[_-]\d+|best_model)[_/])?"
    r"((train|val|kept|speed|result)/|kept[._])?("
    rf"eval/\d+-shot/({_OF_METHOD}|{_OF_MODEL}|{_SURENESS}|baselines/{_OF_METHOD}\.({_BASELINES}))"
    rf"|\d+-shot/({_BASELINES}|model)/({_OF_METHOD}|{_OF_MODEL}|{_SURENESS})|\d+-shot_backbone_passes"
    rf"|(last_|best_)?{_HELD_OUT}(\.averaged|\.raw)?|(val_)?iou\.\d+|1-shot_mIoU|objective|best_objective"
    r"|loss(\.(consistency|pseudo|supervised))?|gradient_norm|epochs?|rounds?|steps?|(kept|best)_step|training_steps"
    r"|data_wait_share|learning_rate|(images|steps|episodes)_per_second|gpu_memory_gb"
    r"|(quarantined|without_a_mask|no_mask)(_(" + _REASONS + r"))?|usable|unusable|photographs|images|masks|classes"
    r"|classes_left_out|parts_(made|kept)|accepted(_masks|_pseudo-masks)?|rejected_by_(a_gate|rank)|not_accepted"
    r"|train|held_out|pool|labelled|too_small|trusted_at_first|stable_pictures|strokes|trials|completed|pruned|failed"
    r"|pictures_(in_the_bank|with_a_feature)|evaluation_episodes|episodes|agreement|median_agreement_of_support_sets"
    r"|(area|position|class)_shift(_of_the_accepted)?|shift_all|share_outside_the_network|audited_pictures"
    r"|audit_(IoU|IoU_before|gain)(_low|_high)?|(changed|ignored)_pixels|vanished_objects"
    r"|claims[./](verified|short|measured|not_run)|claims?[./]\d+\.(ours|claimed)"
    r")"
    r"|system/(node-\d+/)?(cpu|system_memory|disk|network|gpu_\d+)"
    r"(_(utilization|memory|usage|available|receive|transmit|power))*_(percentage|megabytes|watts)"
)
"""Names of metrics, with ``_`` for blanks."""
_RECORDS = re.compile(rf"training|data|training_data|step|run_id|raw|averaged|painted|weights|saliency_prior|{_DATA}")
_DRAWN = re.compile(r"search\.[a-z][a-z._-]{1,40}")  # by the flags of the training
_PROFILE = re.compile(r"collection|mask_set_hash|acceptance_hash|contents|plans?|train_classes")


def public_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that a private run writes; an error keeps its type and nothing of its message."""
    kept, environment = {}, _environment()
    for name, value in tags.items():
        if name == "fss.error":
            kind = _ERROR.match(value)
            kept[name] = kind[0] if kind else HIDDEN
        elif value == environment.get(name) or any(
            re.fullmatch(names, name) and re.fullmatch(values, value) for names, values in TAGS.items()
        ):
            kept[name] = value
    return kept


@cache
def _environment() -> dict[str, str]:
    return environment_tags()


def public_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters without types that a private run writes: the drawn numbers of a trial of a sweep."""
    return {name: public_value(value) for name, value in params.items() if _DRAWN.fullmatch(name)}


def public_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that a private run writes."""
    return {name: value for name, value in metrics.items() if is_public_metric(name)}


def is_public_metric(name: str) -> bool:
    """Return whether a metric has a listed name."""
    return bool(METRICS.fullmatch(re.sub(r"[^A-Za-z0-9_./@-]+", "_", name).strip("_")))


def public_run_name(name: str, tags: Mapping[str, str]) -> str:
    """Return the name of a private run: that of its job, or of a trial or stage, without names of data."""
    listed = re.match(r"(trial [0-9a-f_]{1,40}|stage-\d)(?= |$)", name)
    return listed[0] if listed else public_tags(tags).get("fss.job", "run")


def public_profile(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return the profile of a data set in a private run: counts with listed names, and hashes."""
    return {
        name: public_value(value)
        for name, value in profile.items()
        if (_PROFILE.fullmatch(name) and not isinstance(value, bool | int | float)) or is_public_metric(name)
    }


def public_description(values: Any) -> Any:
    """Return the records beside the settings of a model: numbers and hashes with listed names."""
    if isinstance(values, Mapping):
        return {
            name: kept
            for name, value in values.items()
            if (_RECORDS.fullmatch(name) or is_public_metric(name))
            and (kept := public_description(value)) not in (HIDDEN, {})
        }
    if isinstance(values, list):
        return [public_value(value) for value in values]
    return public_value(values)


@contextmanager
def private_context() -> Iterator[None]:
    """Hide what MLflow itself finds out about a logged model's origin in a block: the user, the script, a notebook."""
    from mlflow.tracking.context.registry import resolve_tags

    name = "MLFLOW_RUN_CONTEXT"
    before = os.environ.get(name)
    found = resolve_tags()
    os.environ[name] = json.dumps({tag: public_tags({tag: str(found[tag])}).get(tag, HIDDEN) for tag in found})
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
