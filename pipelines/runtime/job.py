"""The protocol of a job: dry run, reuse of a finished result, ownership of the output, MLflow run, and summary.json.

    with Job("train", config, key=key, output_dir=output_dir, inputs=inputs, plan=plan, parent=parent) as job:
        if job.done:
            return job.result
        with job.timed("training"):
            ...
        job.result.metrics = ...
    return job.result

The block runs inside the MLflow run of the job. If it ends without an error, its counts and metrics are logged, and the
result is written to ``summary.json`` and logged too.
"""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from fss.core.config import config_hash, flatten, to_dict
from fss.core.flags import walk_flags
from fss.core.lease import hold
from fss.core.temporary import delete_leftovers
from fss.tracking.delivery import DatasetId
from fss.tracking.run import Run
from fss.tracking.store import run_page
from pipelines.runtime.command_line import command
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.description import artifact_address, describe
from pipelines.runtime.labels import Labels
from pipelines.runtime.metric_names import BASELINES, result_metrics
from pipelines.runtime.mlflow_run import close_finished, job_run
from pipelines.runtime.output_dir import check_contents, check_output_dir, check_owner, claim, remove
from pipelines.runtime.result import DRY_RUN, JobResult, check_outputs, finished_before

TAG_LIMIT = 5000  # of MLflow, in characters
AHEAD_TAG = "fss.ahead_of_all"
"""Tag of a run with a verdict: whether the model is ahead of all baselines, yes or no."""


class Job:
    """One run of a job."""

    def __init__(
        self,
        name: str,
        config: Any,
        *,
        key: str,
        output_dir: str | None,
        inputs: Mapping[str, Any],
        plan: Mapping[str, Any] = {},
        complete: bool = True,
        claim_as: str | None = None,
        contents: Mapping[str, str] = {},
        settings: Mapping[str, Any] = {},
        preset: tuple[str, Any] | None = None,
        remove_too: Sequence[str] = (),
        in_collection: bool = False,
        title: str | None = None,
        labels: Labels | None = None,
        parent: Run | None = None,
        run: Run | None = None,
        tags: Mapping[str, str] | None = None,
    ):
        """Describe the job; entering the block starts it.

        Args:
            name: name of the job's module.
            config: the resolved configuration, which a dry run shows and MLflow logs.
            key: hash of everything that determines the result; equal keys mean the same job.
            output_dir: folder of ``summary.json`` (local or object store). None: the job writes none, and always runs.
            inputs: inputs of the job, for the result.
            plan: values that a dry run shows after the configuration.
            complete: whether all outputs exist; if not, a finished job runs again.
            claim_as: description of the output folder, if jobs with other settings must not write into it. With
                ``overwrite`` the folder is removed first.
            contents: hashes of the files that the job reads, by their roles; the key does not cover them. A job of the
                same key that began with other files is neither continued nor taken as finished: it is refused if it
                claims its output folder, and else runs again.
            settings: settings that shape the outputs but not the key; a finished job with others is not repeated, but a
                line says so.
            preset: name and settings of the preset that the command in the run's description starts from; None: the
                defaults of the configuration, for a job that has no preset unless one is given.
            remove_too: folders that ``overwrite`` removes too. A job that does not claim its output folder adds it.
            in_collection: whether the output folder is that of a collection or mask set, which other jobs write too.
            title: name of the result; None: the name of the job.
            labels: what tells the MLflow run from others of its job; the name of the run is the title with these.
            parent: run of the job that this one is a stage of.
            run: an open MLflow run to log to, which its owner ends; None: the job opens one.
            tags: tags of the run.
        """
        self.name, self.config, self.key, self.output_dir = name, config, key, output_dir
        self.plan, self.complete, self.claim_as, self.remove_too = plan, complete, claim_as, remove_too
        self.title, self._in_collection = title or name, in_collection
        self._preset: str | None
        self._preset, self._default = preset or (None, type(config)())
        self.result = JobResult(job=self.title, inputs={**inputs, "key": key}, settings=dict(settings))
        if contents:
            self.result.inputs["contents"] = config_hash(dict(contents))
        self.done = False
        self.pictures: dict[str, str] = {}
        """Logged pictures that the description of the run shows, by caption."""
        self.model: str | None = None
        """Id of the logged model that the metrics of the result are of."""
        self.dataset: DatasetId | None = None
        """Logged dataset that they were measured on."""
        self.logged: Collection[str] = ()
        """Names of metrics of the result that the job has logged itself."""
        labels = labels or Labels()
        self._run_name = labels.run_name(self.title, key)
        self._parent, self._given_run, self._tags = parent, run, {**labels.tags(), **(tags or {})}
        self._stack = ExitStack()
        self._run: Run | None = None

    def __enter__(self) -> Self:
        if self.output_dir is not None:
            check_output_dir(self.output_dir)
            self._check_owner(self.output_dir)
        if getattr(self.config, "dry_run", False):
            self.result, self.done = dry_run(self.name, self.config, self.plan), True
            return self
        overwrite = getattr(self.config, "overwrite", False)
        may_be_finished = self.output_dir is not None and self.complete and not overwrite
        finished = finished_before(str(self.output_dir), self.key) if may_be_finished else None
        if finished is not None and self._read_the_same(finished):
            check_outputs(finished.outputs, self.claim_as or f"{self.name} in {self.output_dir}", str(self.output_dir))
            self._tell_settings(finished)
            self.result, self.done = finished, True
            self._close_finished()
            return self
        try:
            self._start(overwrite=overwrite)
        except BaseException:
            self._stack.close()
            raise
        return self

    def _check_owner(self, output_dir: str) -> None:
        if not self._in_collection:
            claimed, overwrite = self.claim_as is not None, getattr(self.config, "overwrite", False)
            emptied = overwrite and (claimed or output_dir in self.remove_too)
            check_owner(output_dir, self.title, claimed=claimed, emptied=emptied)

    def _read_the_same(self, finished: JobResult) -> bool:
        """Return whether a finished job read the files that are there now; a line says that it did not.

        Raises:
            ValueError: it did not, and the job claims its output folder.
        """
        before, now = (result.inputs.get("contents") for result in (finished, self.result))
        what = self.claim_as or f"a result of {self.name} in {self.output_dir}"
        if self.claim_as is None and before and now and before != now:
            text = f"there is {what} of other data: files have changed since (contents {before}, now {now})"
            print(f"{text}; the job runs again", file=sys.stderr, flush=True)
            return False
        check_contents(before, now, what)
        return True

    def _tell_settings(self, finished: JobResult) -> None:
        """Say that a finished job keeps the outputs of other settings."""
        for name, value in self.result.settings.items():
            if (before := finished.settings.get(name, value)) != value:
                what = self.claim_as or f"{self.name} in {self.output_dir}"
                text = f"{what} has finished with {name} {before}, not {value}; give --overwrite to repeat it"
                print(text, file=sys.stderr, flush=True)

    def _start(self, *, overwrite: bool) -> None:
        """Take the output folder and open the run."""
        delete_leftovers()  # of jobs that were killed
        if self.output_dir is not None:
            self._stack.enter_context(hold(self.output_dir, self.claim_as or f"{self.name} in {self.output_dir}"))
        if overwrite:  # before the run is opened, because it writes into the folder
            own = [str(self.output_dir)] if self.claim_as is not None else []
            remove(*own, *self.remove_too)
        if self.claim_as is not None:
            assert self.output_dir is not None, "only an output folder can be claimed"
            contents = self.result.inputs.get("contents")
            claim(self.output_dir, self.key, to_dict(self.config), what=self.claim_as, contents=contents)
        tracking: TrackingConfig = self.config.tracking
        self._run = self._stack.enter_context(
            job_run(
                self._run_name,
                job=self.name,
                key=self.key,
                tracking=tracking,
                tell=self.result.notes.append,
                output_dir=self.output_dir,
                parent=self._parent,
                run=self._given_run,
                params=self.config,
                tags=self._tags,
                fresh=overwrite,
            )
        )
        self.result.run_id = self._run.run_id
        if self._parent is None and self._given_run is None:
            page = run_page(self._run.uri, self._run.experiment_id, self._run.run_id)
            self.result.run_page, self.result.run_server = page

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or self.done:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            counts, metrics = result_metrics(self.result.counts, {}), result_metrics({}, self.result.metrics)
            metrics = {name: value for name, value in metrics.items() if name not in self.logged}
            of_model = {name: value for name, value in metrics.items() if BASELINES not in name}
            self.run.log_metrics(counts | {name: value for name, value in metrics.items() if name not in of_model})
            self.run.log_metrics(of_model, model=self.model, dataset=self.dataset)
            self.run.describe(self._description())
            if self.result.notes:
                self.run.set_tags({"fss.notes": "\n".join(self.result.notes)[:TAG_LIMIT]})
            for name, verdict in self.result.verdicts.items():
                self.run.set_tags({f"fss.verdict.{name}": verdict["line"][:TAG_LIMIT]})
            for verdict in list(self.result.verdicts.values())[:1]:
                if "ahead_of_all" in verdict:
                    self.run.set_tags({AHEAD_TAG: "yes" if verdict["ahead_of_all"] else "no"})
            if self.output_dir is not None:
                self.result.write(self.output_dir)
            self.run.log_json("summary.json", to_dict(self.result))

    def _description(self) -> str:
        """Return the description of the run, with the command that repeats the job."""
        again = command(self.name, self.config, default=self._default, preset=self._preset)
        pictures = {caption: artifact_address(self.run, name) for caption, name in self.pictures.items()}
        return describe(self.result, command=again, pictures=pictures)

    def _close_finished(self) -> None:
        """Close the run of a job that finished before, if it was killed between its summary and the end of its run."""
        if self._parent is not None and self.result.run_id:
            replace(self._parent, run_id=self.result.run_id).log("finish")
        elif self._parent is None and self._given_run is None:
            summary = to_dict(replace(self.result, worked=True))
            if note := close_finished(str(self.output_dir), summary, self.config.tracking):
                self.result.notes.append(note)

    @property
    def run(self) -> Run:
        """The job's MLflow run; a dry run and a job that had finished have none."""
        assert self._run is not None, "a job that is done has no run"
        return self._run

    def timed(self, stage: str) -> Any:
        """Add the wall-clock time of a block to the result's durations."""
        return self.result.timed(stage)

    def start_ray(self) -> None:
        """Join the Ray cluster or start a small local Ray, until the block ends."""
        from pipelines.runtime.ray_session import ray_session

        self._stack.enter_context(ray_session())


def has_ray() -> bool:
    """Return whether there is a Ray to run on: a cluster, or the session of an outer job."""
    ray = sys.modules.get("ray")
    return bool(os.environ.get("RAY_ADDRESS")) or (ray is not None and ray.is_initialized())


def dry_run(name: str, config: Any, plan: Mapping[str, Any]) -> JobResult:
    """Return the result of a dry run: all settings of the configuration, named by their flags, and the plan."""
    flags = {flag.path: f"--{flag.name}" for flag in walk_flags(config)}
    settings = {flags.get(path, path): value for path, value in flatten(to_dict(config)).items()}
    return JobResult(job=f"{name}{DRY_RUN}", inputs=settings, metrics=dict(plan))
