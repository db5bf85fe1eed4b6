"""The gate of a sweep: it evaluates the best model once on labelled pictures, and registers a model that passes."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from mlflow.exceptions import MlflowException

from fss.collection import Collection
from fss.core import storage
from fss.evaluation.baselines import BASELINES, DENSITY_PRIOR
from fss.evaluation.verdict import ahead_text
from fss.inference.mlflow_model import log_model
from fss.models.config import SegmenterConfig
from fss.tracking.delivery import DatasetId
from fss.tracking.lineage import log_dataset
from fss.tracking.privacy import public_tags
from fss.tracking.run import Run, tracking_client
from pipelines import evaluate
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.evaluation.plans import make_plans
from pipelines.evaluation.task import MODEL
from pipelines.runtime.checkpoints import local_copy
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.metric_names import method_metrics
from pipelines.tuning.config import GateConfig

METRIC = "1-shot/model/mIoU"
FAILED = "FAILED: "  # start of the description of a failed check


@dataclass(frozen=True, kw_only=True)
class GateDecision:
    """Decision of the gate."""

    passed: bool
    """Whether the model passed all checks."""
    reasons: tuple[str, ...]
    """Description of every check, passed or failed."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics of the model."""
    plan: str = ""
    """Hash of the episode plan."""
    verdict: dict[str, Any] = field(default_factory=dict)
    """Comparison of the model with all baselines, also those that it does not have to beat."""


def check_gate(config: GateConfig, network: SegmenterConfig) -> None:
    """Check before the search that the gate can be applied, since a finished search keeps its gate.

    Args:
        config: settings of the gate.
        network: the network of the trials, which decides what baselines there are.

    Raises:
        ValueError: there is no such baseline, collection or class split, a class has too few pictures, or the registry
            does not take the name of the model or of its alias.
    """
    if config.evaluation:
        baselines = (*BASELINES, *((DENSITY_PRIOR,) if network.density_prior else ()))
        if unknown := sorted(set(config.beats or ()) - set(baselines)):
            raise ValueError(
                f"there are no baselines {', '.join(unknown)}; gate.beats takes {', '.join(map(repr, baselines))}"
            )
        if not config.model.strip() or set("/:") & set(config.model):
            raise ValueError(f"gate.model is {config.model!r}, but MLflow takes a name without slashes and colons")
        if not re.fullmatch(r"(?!latest$|[vV]\d+$)[\w-]+", config.alias):
            raise ValueError(
                f"gate.alias is {config.alias!r}; MLflow takes letters, digits, dashes and underscores, but not "
                "'latest' or a version such as 'v1'"
            )
        evaluation = _evaluation("", config, "", TrackingConfig())
        make_plans(evaluation, Collection.open(config.evaluation).mask_set(evaluation.mask_set))


def evaluate_gate(
    model: str, config: GateConfig, *, output_dir: str, tracking: TrackingConfig, mlflow_run: Run
) -> GateDecision:
    """Evaluate a model, and compare it with the baselines and with the current model of the alias.

    Args:
        model: URI of a checkpoint.
        config: settings of the gate, with a collection.
        output_dir: folder of the evaluations.
        tracking: tracking store of the evaluations.
        mlflow_run: run of the sweep, the parent of the evaluations.

    Raises:
        ValueError: there is no such collection, class split or baseline.
    """
    assert config.evaluation is not None
    best_dir, present_dir = storage.join(output_dir, "best"), storage.join(output_dir, "present")
    best = evaluate.run(_evaluation(model, config, best_dir, tracking), parent=mlflow_run)
    rows = {row["method"]: row for row in json.loads(storage.read_bytes(storage.join(best_dir, "table.json")))}
    baselines = [name for name, row in rows.items() if "ahead" in row]
    if unknown := sorted(set(config.beats or ()) - set(baselines)):
        choices = ", ".join(sorted(baselines))
        raise ValueError(f"there are no baselines {', '.join(unknown)}; gate.beats takes {choices}")
    checks = [_beats(name, rows[name]) for name in (baselines if config.beats is None else config.beats)]
    present = alias_uri(mlflow_run.uri, config)
    if present is None:
        checks.append((True, f"there is no {config.model}@{config.alias} yet"))
    else:
        holder = evaluate.run(_evaluation(present, config, present_dir, tracking), parent=mlflow_run)
        score, holder_score = float(best.metrics[METRIC]), float(holder.metrics[METRIC])
        text = f"{config.model}@{config.alias} has mIoU {100 * holder_score:.1f}, this model {100 * score:.1f}"
        checks.append((score >= holder_score, text))
    return GateDecision(
        passed=all(passed for passed, _ in checks),
        reasons=tuple(f"{'passed: ' if passed else FAILED}{text}" for passed, text in checks),
        metrics={name: float(value) for name, value in best.metrics.items()},
        plan=str(best.inputs["1-shot plan"]),
        verdict=best.verdicts.get(MODEL, {}),
    )


def log_labelled(run: Run, config: GateConfig) -> DatasetId:
    """Log the labelled pictures of the gate as a dataset of a run, and return its name and digest."""
    assert config.evaluation is not None, "a gate has labelled pictures"
    mask_set = _evaluation("", config, "", TrackingConfig()).mask_set
    return log_dataset(run, Collection.open(config.evaluation).mask_set(mask_set), context="evaluation")


def register(
    mlflow_run: Run,
    model: str,
    config: GateConfig,
    decision: GateDecision,
    *,
    tags: dict[str, str],
    dataset: DatasetId | None = None,
) -> str:
    """Log the model to the run of its trial, register it as a new version, and move the alias to it.

    Args:
        mlflow_run: ended run of the trial; its status and end time stay the same.
        model: URI of the checkpoint.
        config: settings of the gate, with the names of model and alias.
        decision: decision of the gate, which the model passed.
        tags: further tags of the version.
        dataset: logged dataset that the metrics were measured on.

    Returns:
        URI of the model by its alias, such as ``models:/fss@champion``.
    """
    assert decision.passed, "only a model that passed the gate is registered"
    client = tracking_client(mlflow_run.uri)
    with local_copy(model) as folder:
        logged = log_model(mlflow_run, folder)
    mlflow_run.log_metrics(
        method_metrics(decision.metrics, MODEL), model=logged.removeprefix("models:/"), dataset=dataset
    )
    try:
        client.create_registered_model(config.model)
    except MlflowException:
        client.get_registered_model(config.model)  # raises unless the model exists already
    all_tags = {"fss.plan": decision.plan, "fss.miou": f"{decision.metrics[METRIC]:.4f}", **tags}
    if mlflow_run.private:
        all_tags = public_tags(all_tags)
    version = client.create_model_version(config.model, logged, run_id=mlflow_run.run_id, tags=all_tags)
    client.set_registered_model_alias(config.model, config.alias, version.version)
    return f"models:/{config.model}@{config.alias}"


def gate_verdict(decision: GateDecision, registered: str | None) -> dict[str, Any]:
    """Return the verdict on the best model, with what became of it.

    Args:
        decision: decision of the gate.
        registered: URI of the model by its alias; None if it was not registered.
    """
    failed = [text.removeprefix(FAILED) for text in decision.reasons if text.startswith(FAILED)]
    outcome = f"Registered as {registered}." if registered else f"Not registered: {'; '.join(failed)}."
    line = str(decision.verdict["line"])  # ends with what to do next
    return {**decision.verdict, "line": f"{outcome} {line[:1].upper()}{line[1:]}"}


def alias_uri(uri: str, config: GateConfig) -> str | None:
    """Return the URI of the current model of the alias, or None."""
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
        skip_small_classes=config.skip_small_classes,
        tracking=tracking,
    )


def _beats(name: str, row: dict[str, Any]) -> tuple[bool, str]:
    ahead = row["ahead_low"] > 0
    return ahead, f"{'ahead' if ahead else 'not surely ahead'} of {name}: {ahead_text(row)}"
