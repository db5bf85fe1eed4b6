"""MLflow runs of the jobs: one run per job, with a child per stage; a resumed job continues its run.

What a job logs goes through a spool in its output folder, which its stages share. MLflow has to answer when a job
starts; afterwards the job goes on without it, and says at its end what MLflow lacks.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fss.core import storage
from fss.core.system import installed_packages
from fss.inference.kept_models import model_handlers
from fss.tracking.delivery import DatasetId, Delivery
from fss.tracking.lifetime import end_on_exit, find_unfinished
from fss.tracking.run import Run, ensure_experiment, sqlite_path, tracking_uri
from fss.tracking.settlement import deliver, keep_model, mark, read_marker, settle, settle_finished
from fss.tracking.spool import FOLDER, open_spool
from fss.tracking.store import say
from fss.tracking.system_metrics import monitor_system
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.output_dir import check_not_temporary

FINISHED_S, STOPPED_S = 20.0, 4.0
"""Seconds that a finished and a stopped job wait for MLflow; a stopped one may be killed soon."""
_MODELS, _ID = "models:/", "m-"
"""Prefix of the URI of a logged model, and start of its id."""


@contextmanager
def job_run(
    title: str,
    *,
    job: str,
    key: str,
    tracking: TrackingConfig,
    tell: Callable[[str], None] = say,
    output_dir: str | None = None,
    parent: Run | None = None,
    run: Run | None = None,
    params: Any = None,
    tags: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> Iterator[Run]:
    """Open the run of a job, or of a stage as a child of ``parent``, and end it after the block.

    An unfinished run of the same ``key`` is continued, so that a resumed job has one run with complete curves.

    Args:
        title: name of the run.
        job: name of the job's module.
        key: hash of everything that determines the result; equal keys mean the same job.
        tracking: store and experiment; a child is in those of its parent.
        tell: gets a sentence on what MLflow lacks when the block ends well.
        output_dir: output folder, which has the spool of a job without a parent; None: a temporary folder.
        parent: the run of the job that this one is a stage of.
        run: a run that the caller opened for this job and ends itself.
        params: settings to log.
        tags: tags for the lineage, such as the fingerprint of the collection.
        fresh: start a new run even if there is an unfinished one.

    Raises:
        ValueError: MLflow does not answer at the start.
    """
    source = {"mlflow.source.name": f"pipelines.{job}", "mlflow.source.type": "LOCAL"}
    all_tags = {"fss.key": key, "fss.job": job} | source | dict(tags or {})
    if run is not None:
        if params:
            run.log_params(params)
        run.set_tags(all_tags)
        with monitor_system(run):
            yield run
    elif parent is not None:
        child = parent.child(title, params=params, tags=all_tags, find=None if fresh else {"fss.key": key})
        with end_on_exit(child), monitor_system(child):
            yield child
    else:
        opened = _open(title, key, tracking, output_dir, params, all_tags, fresh)
        ended = False
        try:
            with end_on_exit(opened), monitor_system(opened):
                yield opened
            ended = True
        finally:
            seconds = FINISHED_S if ended else STOPPED_S
            done = ended or output_dir is None  # without an output, no later attempt continues the spool
            outcome = settle(str(opened.spool), opened.uri, seconds=seconds, finished=done, handlers=model_handlers())
            if note := outcome.note():
                (tell if ended else say)(note)


def _open(
    title: str,
    key: str,
    tracking: TrackingConfig,
    output_dir: str | None,
    params: Any,
    tags: Mapping[str, str],
    fresh: bool,
) -> Run:
    """Open the run of a job without a parent, and deliver first what its last attempt has left."""
    uri, private = tracking_uri(tracking.uri), tracking.private
    if store := sqlite_path(uri):
        check_not_temporary(store, "the MLflow store")
    ensure_experiment(uri, tracking.experiment)
    if output_dir is not None and not fresh:
        deliver(storage.join(output_dir, FOLDER), uri, model_handlers())
    opened = None if fresh else find_unfinished(key, uri=uri, experiment=tracking.experiment, private=private)
    resumed = opened is not None
    if opened is None:
        opened = Run.start(title, uri=uri, experiment=tracking.experiment, tags=tags, private=private)
    temporary = Path(tempfile.gettempdir()) / f"fss-tracking-{opened.run_id}"
    opened = replace(opened, spool=storage.join(output_dir, FOLDER) if output_dir else str(temporary))
    mark(opened)
    if not resumed:  # through the spool, should the store go away after its first answer
        if params:
            opened.log_params(params)
        opened.log_text("packages.txt", installed_packages())
    return opened


def close_finished(output_dir: str, summary: Any, tracking: TrackingConfig) -> str:
    """Send what MLflow lacks of a job that finished before, close its run, and return what it still lacks."""
    spool = storage.join(output_dir, FOLDER)
    if read_marker(spool) is None:
        return ""
    return settle_finished(spool, tracking_uri(tracking.uri), summary, handlers=model_handlers()).note()


def log_served_model(
    run: Run, checkpoint: str, *, metrics: Mapping[str, float], dataset: DatasetId | None = None
) -> str | None:
    """Log the checkpoint of a URI as a model that can be served, and return the model's URI.

    Without an answer of MLflow, the model is logged when the rest of the spool is delivered, and None is returned.

    Args:
        run: run of the training.
        checkpoint: folder of the checkpoint.
        metrics: metrics of the model, which its page shows.
        dataset: logged dataset that they were measured on.
    """
    from mlflow.exceptions import MlflowException

    from fss.inference.mlflow_model import log_model
    from fss.inference.model_files import local_copy

    if run.spool is None or open_spool(run.spool, run.uri).flush(FINISHED_S):
        try:
            with local_copy(checkpoint) as folder:
                uri = log_model(run, folder)
            run.log_metrics(metrics, model=uri.removeprefix(_MODELS), dataset=dataset)
            return uri
        except (MlflowException, OSError) as error:
            if run.spool is None:
                raise
            say(f"the model could not be logged: {error}")
    assert run.spool is not None
    run.log_metrics(metrics)
    keep_model(run, checkpoint, metrics=metrics, dataset=dataset)
    return None


def logged_model(run: Run, uri: str, trained_in: str | None) -> str | None:
    """Return the id of the logged model that a URI names, or that a training logged; None if the store knows neither.

    Args:
        run: any run of the store.
        uri: URI of the model.
        trained_in: id of the run of its training.
    """
    if uri.startswith(_MODELS + _ID):
        return uri.removeprefix(_MODELS)
    if trained_in is None:
        return None

    def last_model(delivery: Delivery) -> str | None:
        outputs = delivery.client.get_run(delivery.run_id(trained_in)).outputs
        return str(outputs.model_outputs[-1].model_id) if outputs and outputs.model_outputs else None

    return last_model(Delivery(run.uri)) if run.spool is None else open_spool(run.spool, run.uri).ask(last_model)
