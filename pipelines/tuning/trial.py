"""One trial of a sweep: the training of ``pipelines.train`` with the values of the searcher."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ray import tune
from ray.train import Checkpoint
from ray.tune.integration.ray_train import TuneReportCallback

from fss.collection import Collection, MaskSet
from fss.collection.acceptance import read_scores, write_acceptance
from fss.collection.config import AcceptanceRule
from fss.core.config import from_dict
from fss.relabel.feature_tables import with_clusters
from fss.tracking.delivery import ERROR_TAG
from fss.tracking.run import Run
from pipelines import train
from pipelines.runtime.mlflow_run import STOPPED_S
from pipelines.training.config import TrainJobConfig, TrainSettings, train_job
from pipelines.tuning.callbacks import STEP, why
from pipelines.tuning.journal import TRIAL, VALUES
from pipelines.tuning.space import QUANTILE, acceptance_name, apply
from pipelines.tuning.trial_runs import open_trial

TRIALS = "trials"
"""Folder of the trainings in the folder of the sweep."""
KEPT = ("kept.", "kept/")
"""Prefixes of the logged metrics of the selected checkpoint, that of fss 0.2 first."""


class ReportRungs(TuneReportCallback):
    """Reports every checkpoint but the last to Tune, which could stop the trial before it writes its model."""

    def __init__(self, last: int):
        super().__init__()  # type: ignore[no-untyped-call]
        self._last = last

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Report the metrics of rank 0 to Tune."""
        if metrics[0][STEP] < self._last:
            super().after_report(run_context, metrics, checkpoint)


def run_trial(trial: dict[str, Any], settings: dict[str, Any]) -> None:
    """Run a trial in a process of Tune.

    Args:
        trial: ``trial``, the id in the sweep, and ``values``, the drawn values by the name of the dimension.
        settings: plain values: ``config``, the initial training job, ``output``, the folder of all trials, and
            ``run``, the MLflow run of the sweep.
    """
    trial_id, values = str(trial[TRIAL]), trial[VALUES]
    mlflow_run = open_trial(Run(**settings["run"]), trial_id, values)
    base = from_dict(TrainJobConfig, settings["config"])
    try:
        config = trial_config(base, values, name=trial_id, output=settings["output"])
        if QUANTILE in values:
            write_quantile(base, values[QUANTILE])
        train.run(config, mlflow_run=mlflow_run, callbacks=[ReportRungs(config.optimizer.steps)])
    except Exception as error:  # logged here, because Tune's callbacks run before Tune has written the reason
        mlflow_run.set_tags({ERROR_TAG: why(error)})
        mlflow_run.flush(STOPPED_S)  # the driver reads it at once
        raise
    _, metrics = mlflow_run.latest_metrics(STEP)
    selected = {
        name.removeprefix(prefix): value
        for prefix in KEPT
        for name, value in metrics.items()
        if name.startswith(prefix)
    }
    tune.report({**selected, STEP: config.optimizer.steps})


def trial_config(base: TrainJobConfig, values: Mapping[str, Any], *, name: str, output: str) -> TrainJobConfig:
    """Return the configuration of a trial's training.

    The held-out pictures are always those of the sweep's acceptance, so all trials are validated on the same tasks.

    Raises:
        ValueError: a value is invalid, or values contradict each other.
    """
    start = TrainSettings(**{each.name: getattr(base, each.name) for each in fields(TrainSettings)})
    held_out = base.held_out_acceptance or base.acceptance
    training = apply(replace(start, held_out_acceptance=held_out, log_model=False), values)
    acceptance = acceptance_name(values[QUANTILE]) if QUANTILE in values else base.acceptance
    return train_job(
        training,
        collection=base.collection,
        mask_set=base.mask_set,
        acceptance=acceptance,
        output=output,
        name=name,
        seed=base.seed,
        tracking=base.tracking,
    )


def write_quantile(base: TrainJobConfig, quantile: float) -> None:
    """Accept another share of the masks, by the stored scores and the rule of the sweep's acceptance."""
    masks: MaskSet = Collection.open(base.collection).mask_set(base.mask_set)
    name, template = acceptance_name(quantile), base.acceptance or base.held_out_acceptance
    rule = from_dict(AcceptanceRule, masks.read_acceptance(template).rule) if template else AcceptanceRule()
    rule = replace(rule, quantile=quantile)
    parts = sorted(masks.finished_parts())
    table = read_scores(masks, parts)
    if rule.within_clusters:
        table = with_clusters(table, masks, parts)
    write_acceptance(masks, name, table, rule)
