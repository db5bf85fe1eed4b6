"""One trial of a sweep: the training of ``pipelines.train`` with what the searcher drew."""

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
from fss.tracking.run import Run
from pipelines import train
from pipelines.training.config import TrainJobConfig, TrainSettings, train_job
from pipelines.tuning.callbacks import STEP, why
from pipelines.tuning.space import QUANTILE, acceptance_name, apply
from pipelines.tuning.trial_runs import ERROR_TAG, open_trial

TRIALS = "trials"
"""Folder of the trials' trainings in the sweep's folder."""
KEPT = "kept."
"""Prefix of the figures of the checkpoint that a training keeps, as it logs them."""


class ReportRungs(TuneReportCallback):
    """Tells Tune of every checkpoint but the last: a trial that is stopped at its end would not write its model."""

    def __init__(self, last: int):
        super().__init__()  # type: ignore[no-untyped-call]
        self._last = last

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Pass on what rank 0 reported."""
        if metrics[0][STEP] < self._last:
            super().after_report(run_context, metrics, checkpoint)


def run_trial(values: dict[str, Any], settings: dict[str, Any]) -> None:
    """Train with ``values``; runs in a process of Tune's.

    Args:
        values: what the searcher drew, by the dimensions' names.
        settings: plain values: ``config``, the training job that the search starts from, ``output``, the folder of all
            trials, and ``run``, the sweep's MLflow run.
    """
    trial_id = str(tune.get_context().get_trial_id())
    mlflow_run = open_trial(Run(**settings["run"]), trial_id, values)
    base = from_dict(TrainJobConfig, settings["config"])
    try:
        config = trial_config(base, values, name=trial_id, output=settings["output"])
        if QUANTILE in values:
            write_quantile(base, values[QUANTILE])
        train.run(config, mlflow_run=mlflow_run, callbacks=[ReportRungs(config.optimizer.steps)])
    except Exception as error:  # logged here, because Tune's callbacks hear of a failure before its reason is written
        mlflow_run.set_tags({ERROR_TAG: why(error)})
        raise
    _, metrics = mlflow_run.latest_metrics(STEP)
    kept = {name.removeprefix(KEPT): value for name, value in metrics.items() if name.startswith(KEPT)}
    tune.report({**kept, STEP: config.optimizer.steps})


def trial_config(base: TrainJobConfig, values: Mapping[str, Any], *, name: str, output: str) -> TrainJobConfig:
    """Return the configuration of a trial's training.

    Its held-out pictures are those of the sweep's acceptance whatever it trains on, so that all trials are validated by
    the same tasks.

    Raises:
        ValueError: values that do not fit the settings or each other.
    """
    start = TrainSettings(**{each.name: getattr(base, each.name) for each in fields(TrainSettings)})
    validated = base.held_out_acceptance or base.acceptance
    what = apply(replace(start, held_out_acceptance=validated, log_model=False), values)
    acceptance = acceptance_name(values[QUANTILE]) if QUANTILE in values else base.acceptance
    return train_job(
        what,
        collection=base.collection,
        mask_set=base.mask_set,
        acceptance=acceptance,
        output=output,
        name=name,
        seed=base.seed,
        tracking=base.tracking,
    )


def write_quantile(base: TrainJobConfig, quantile: float) -> None:
    """Accept another share of the masks by the rule of the present acceptance, from the stored scores: seconds."""
    masks: MaskSet = Collection.open(base.collection).mask_set(base.mask_set)
    name, model = acceptance_name(quantile), base.acceptance or base.held_out_acceptance
    rule = from_dict(AcceptanceRule, masks.read_acceptance(model).rule) if model else AcceptanceRule()
    rule = replace(rule, quantile=quantile)
    parts = sorted(masks.finished_parts())
    table = read_scores(masks, parts)
    if rule.within_clusters:
        table = with_clusters(table, masks, parts)
    write_acceptance(masks, name, table, rule)
