"""The MLflow runs of a sweep: one child run per trial, with the id of the trial as a tag."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fss.tracking.delivery import ERROR_TAG, LOCAL, PARENT_TAG, Delivery
from fss.tracking.run import Run, tracking_client
from fss.tracking.settlement import settle
from fss.tracking.spool import open_spool
from fss.tracking.store import ask, say
from pipelines.runtime.mlflow_run import FINISHED_S, STOPPED_S
from pipelines.runtime.result import value_text

NAME_LIMIT = 80
"""Longest name of a trial's run, in characters; values that do not fit are left out."""
TRIAL_TAG = "ray.trial_id"
STATE_TAG = "fss.trial"
OBJECTIVE, OLD_OBJECTIVE = "val/objective", "objective"
"""Metric of a child run: the objective at every validated step; its name in sweeps of fss 0.2."""
SEARCHED = "search."
"""Prefix of the parameters of a child run with the drawn values."""

State = Literal["completed", "pruned", "failed", "stopped"]
STATUS: dict[State, str] = {"completed": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "stopped": "KILLED"}


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """State and results of a trial."""

    trial_id: str
    """Id of the trial in the sweep."""
    run_id: str
    """Id of the MLflow run."""
    state: str
    """completed, pruned, failed, stopped (with the sweep), or running."""
    values: dict[str, Any] = field(default_factory=dict)
    """Drawn values by dimension."""
    curve: dict[int, float] = field(default_factory=dict)
    """Objective by step; the last value of a completed trial is that of the selected checkpoint."""
    error: str | None = None
    """Reason of a failure."""

    @property
    def objective(self) -> float | None:
        """Last value of the objective; None if the trial was never validated."""
        return self.curve[max(self.curve)] if self.curve else None


def find_trial(sweep: Run, trial_id: str) -> Run | None:
    """Return the run of a trial, or None; without an answer of the store, the run that it will have."""
    query = f"tags.`{TRIAL_TAG}` = '{trial_id}' and tags.`{PARENT_TAG}` = '{sweep.run_id}'"

    def search(delivery: Delivery) -> list[str]:
        runs = delivery.client.search_runs([sweep.experiment_id], query, max_results=1)
        return [run.info.run_id for run in runs]

    if sweep.spool is None:
        ids = search(Delivery(sweep.uri))
    else:
        answer = open_spool(sweep.spool, sweep.uri).ask(search)
        ids = [_local_id(sweep, trial_id)] if answer is None else answer
    return replace(sweep, run_id=ids[0]) if ids else None


def open_trial(sweep: Run, trial_id: str, values: Mapping[str, Any]) -> Run:
    """Open the run of a trial: the existing run if the sweep was restored, else a new one."""
    return sweep.child(
        _name(trial_id, values),
        params={f"{SEARCHED}{name}": value for name, value in values.items()},
        tags={TRIAL_TAG: trial_id},
        find={TRIAL_TAG: trial_id},
        unfinished=False,
        local_id=_local_id(sweep, trial_id),
    )


def _name(trial_id: str, values: Mapping[str, Any]) -> str:
    """Return the name of a trial's run, such as ``trial 1a2b tilt 0.2, lanes 4``."""
    name, joint = f"trial {trial_id}", " "
    for dimension, value in values.items():
        pair = f"{joint}{dimension.rpartition('.')[2]} {value_text(value)}"
        if len(name + pair) > NAME_LIMIT:
            break
        name, joint = name + pair, ", "
    return name


def _local_id(sweep: Run, trial_id: str) -> str:
    return f"{LOCAL}{sweep.run_id}-{trial_id}"


def close_trial(run: Run, state: State, error: str | None = None) -> None:
    """End the run of a trial, and tag it with its state and error."""
    run.set_tags({STATE_TAG: state} | ({ERROR_TAG: error[:500]} if error else {}))
    run.end(STATUS[state])


def close_leftovers(sweep: Run) -> int:
    """End the runs of all trials that are marked as running after the search, and return their number.

    Without an answer of the store, the next search ends them.
    """
    try:
        running = [trial for trial in read_trials(sweep, seconds=STOPPED_S) if trial.state == "running"]
    except ValueError as error:
        say(f"the runs of stopped trials stay open: {error}")
        return 0
    for trial in running:
        run = find_trial(sweep, trial.trial_id)
        assert run is not None
        close_trial(run, "stopped")
    return len(running)


def read_trials(sweep: Run, *, seconds: float = FINISHED_S) -> list[TrialResult]:
    """Return all trials of a sweep in the order of their start times.

    Args:
        sweep: run of the sweep.
        seconds: time to wait for entries that the store does not have yet.

    Raises:
        ValueError: the store does not answer.
    """
    if sweep.spool is not None:
        settle(sweep.spool, sweep.uri, seconds=seconds, finished=False)
    return ask(sweep.uri, lambda: list(_read_trials(sweep)))


def _read_trials(sweep: Run) -> Iterator[TrialResult]:
    client = tracking_client(sweep.uri)
    query = f"tags.`{PARENT_TAG}` = '{sweep.run_id}' and tags.`{TRIAL_TAG}` != ''"
    order, token = ["attributes.start_time ASC"], None
    while True:
        page = client.search_runs([sweep.experiment_id], query, order_by=order, page_token=token)
        yield from (_read_trial(client, run) for run in page)
        if not (token := page.token):
            return


def _read_trial(client: Any, run: Any) -> TrialResult:
    tags, params = run.data.tags, run.data.params
    names = [name for name in (OLD_OBJECTIVE, OBJECTIVE) if name in run.data.metrics]
    history = [point for name in names for point in client.get_metric_history(run.info.run_id, name)]
    return TrialResult(
        trial_id=tags[TRIAL_TAG],
        run_id=run.info.run_id,
        state="running" if run.info.status == "RUNNING" else tags.get(STATE_TAG, "stopped"),
        values={name.removeprefix(SEARCHED): _value(v) for name, v in params.items() if name.startswith(SEARCHED)},
        curve={point.step: point.value for point in sorted(history, key=lambda point: (point.step, point.timestamp))},
        error=tags.get(ERROR_TAG),
    )


def _value(text: str) -> Any:
    """Undo ``str`` of a plain value."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
