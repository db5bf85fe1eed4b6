"""The gate of a sweep: the best model is evaluated once on labelled pictures, and registered if it is worth it."""

import json
from dataclasses import dataclass, field
from typing import Any

from mlflow.exceptions import MlflowException

from fss.collection import Collection
from fss.core import storage
from fss.inference.mlflow_model import log_model
from fss.tracking.run import Run, tracking_client
from pipelines import evaluate
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.evaluation.plans import make_plans
from pipelines.runtime.checkpoints import local_copy
from pipelines.runtime.config import TrackingConfig
from pipelines.tuning.config import GateConfig

METRIC = "1-shot/model/mIoU"


@dataclass(frozen=True, kw_only=True)
class GateDecision:
    """Outcome of the gate."""

    passed: bool
    """Whether the model is worth its alias."""
    reasons: tuple[str, ...]
    """Every check in words, passed or not."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The model's metrics."""
    plan: str = ""
    """Hash of the episode plan."""


def check_gate(config: GateConfig) -> None:
    """Refuse a gate that could not be applied after the search; ValueError saying why."""
    if config.evaluation:
        evaluation = _evaluation("", config, "", TrackingConfig())
        make_plans(evaluation, Collection.open(config.evaluation).mask_set(evaluation.mask_set))


def evaluate_gate(
    model: str, config: GateConfig, *, output_dir: str, tracking: TrackingConfig, mlflow_run: Run
) -> GateDecision:
    """Evaluate a model and compare it with baselines and with what the alias names at present.

    Args:
        model: folder of a checkpoint.
        config: the gate; it has a collection.
        output_dir: folder for the evaluations.
        tracking: the store.
        mlflow_run: the sweep's run, of which the evaluations are children.

    Raises:
        ValueError: no such collection or class split, or a baseline that there is not.
    """
    assert config.evaluation is not None
    best_dir, present_dir = storage.join(output_dir, "best"), storage.join(output_dir, "present")
    best = evaluate.run(_evaluation(model, config, best_dir, tracking), parent=mlflow_run)
    rows = {row["method"]: row for row in json.loads(storage.read_bytes(storage.join(best_dir, "table.json")))}
    if unknown := sorted(set(config.beats) - set(rows)):
        raise ValueError(f"there are no baselines {', '.join(unknown)}; there are {', '.join(sorted(rows))}")
    checks = [_beats(name, rows[name]) for name in config.beats]
    present = alias_uri(mlflow_run.uri, config)
    if present is None:
        checks.append((True, f"nothing is {config.model}@{config.alias} yet"))
    else:
        holder = evaluate.run(_evaluation(present, config, present_dir, tracking), parent=mlflow_run)
        ours, theirs = float(best.metrics[METRIC]), float(holder.metrics[METRIC])
        text = f"{config.model}@{config.alias} has mIoU {100 * theirs:.1f}, this model {100 * ours:.1f}"
        checks.append((ours >= theirs, text))
    return GateDecision(
        passed=all(passed for passed, _ in checks),
        reasons=tuple(f"{'passed' if passed else 'FAILED'}: {text}" for passed, text in checks),
        metrics={name: float(value) for name, value in best.metrics.items()},
        plan=str(best.inputs["1-shot plan"]),
    )


def register(mlflow_run: Run, model: str, config: GateConfig, decision: GateDecision, *, tags: dict[str, str]) -> str:
    """Log the model in the run of its trial, register it as a new version, and move the alias to it.

    Args:
        mlflow_run: the trial's run, which has ended and stays so.
        model: folder of its checkpoint.
        config: names of model and alias.
        decision: of the gate, which the model passed.
        tags: what else to say about the version.

    Returns:
        The model by its alias: ``models:/fss@champion``.
    """
    assert decision.passed, "only what passed the gate is registered"
    client = tracking_client(mlflow_run.uri)
    before = client.get_run(mlflow_run.run_id).info
    with local_copy(model) as folder:
        logged = log_model(mlflow_run, folder)
    client.set_terminated(mlflow_run.run_id, before.status, before.end_time)
    try:
        client.create_registered_model(config.model)
    except MlflowException:
        client.get_registered_model(config.model)  # it was there before
    all_tags = {"fss.plan": decision.plan, "fss.miou": f"{decision.metrics[METRIC]:.4f}", **tags}
    version = client.create_model_version(config.model, logged, run_id=mlflow_run.run_id, tags=all_tags)
    client.set_registered_model_alias(config.model, config.alias, version.version)
    return f"models:/{config.model}@{config.alias}"


def alias_uri(uri: str, config: GateConfig) -> str | None:
    """Return the model that the alias names at present, None where it names none."""
    try:
        tracking_client(uri).get_model_version_by_alias(config.model, config.alias)
    except MlflowException:
        return None
    return f"models:/{config.model}@{config.alias}"


def _evaluation(model: str, config: GateConfig, output: str, tracking: TrackingConfig) -> EvaluateJobConfig:
    assert config.evaluation is not None
    return EvaluateJobConfig(
        model=model,
        collection=config.evaluation,
        output=output,
        classes=config.classes,
        episodes=config.episodes,
        shots=(1,),
        tracking=tracking,
    )


def _beats(name: str, row: dict[str, Any]) -> tuple[bool, str]:
    low, high = row["ahead_low"], row["ahead_high"]
    return low > 0, f"ahead of {name} by {100 * row['ahead']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] mIoU"
