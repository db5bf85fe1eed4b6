"""MLflow runs of the jobs: one run per job, with a child per stage; a resumed job continues its run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fss.core.system import installed_packages, monitor_system
from fss.tracking.run import Run, end_on_exit, find_unfinished, sqlite_path, tracking_uri
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.output_dir import check_not_temporary


@contextmanager
def job_run(
    title: str,
    *,
    job: str,
    key: str,
    tracking: TrackingConfig,
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
        parent: the run of the job that this one is a stage of.
        run: a run that the caller opened for this job and ends itself.
        params: settings to log.
        tags: tags for the lineage, such as the fingerprint of the collection.
        fresh: start a new run even if there is an unfinished one.
    """
    source = {"mlflow.source.name": f"pipelines.{job}", "mlflow.source.type": "LOCAL"}
    all_tags = {"fss.key": key, "fss.job": job} | source | dict(tags or {})
    if run is not None:
        if params:
            run.log_params(params)
        run.set_tags(all_tags)
        with monitor_system(run.run_id, uri=run.uri):
            yield run
        return
    uri = parent.uri if parent else tracking_uri(tracking.uri)
    if store := sqlite_path(uri):
        check_not_temporary(store, "the MLflow store")
    experiment = None if parent else tracking.experiment
    private = tracking.private
    opened = None if fresh else find_unfinished(key, uri=uri, experiment=experiment, parent=parent, private=private)
    if opened is None:
        opened = Run.start(
            title,
            uri=uri,
            experiment=tracking.experiment,
            parent=parent,
            params=params,
            tags=all_tags,
            private=private,
        )
        if parent is None:
            opened.log_text("packages.txt", installed_packages())
    with end_on_exit(opened), monitor_system(opened.run_id, uri=opened.uri):
        yield opened
