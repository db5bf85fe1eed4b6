"""The MLflow runs of a sweep: one child per trial, found by the trial's id, and read again as a table."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fss.tracking.run import PARENT_TAG, Run, tracking_client

TRIAL_TAG = "ray.trial_id"
STATE_TAG = "fss.trial"
ERROR_TAG = "fss.error"
OBJECTIVE = "objective"
"""Metric of a child: the objective, at every step that it was judged."""
SEARCHED = "search."
"""Parameters of a child: what it drew."""

State = Literal["completed", "pruned", "failed", "stopped"]
STATUS: dict[State, str] = {"completed": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "stopped": "KILLED"}


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What is known of a trial."""

    trial_id: str
    """Ray's name for it."""
    run_id: str
    """Its MLflow run."""
    state: str
    """completed, pruned, failed, stopped (with the sweep), or running."""
    values: dict[str, Any] = field(default_factory=dict)
    """What it drew."""
    curve: dict[int, float] = field(default_factory=dict)
    """The objective by step; the last is that of the checkpoint kept, where it completed."""
    error: str | None = None
    """Why it failed."""

    @property
    def objective(self) -> float | None:
        """The objective at its end, None where it was never judged."""
        return self.curve[max(self.curve)] if self.curve else None


def find_trial(sweep: Run, trial_id: str) -> Run | None:
    """Return the run of a trial, None where it has none yet."""
    wanted = f"tags.`{TRIAL_TAG}` = '{trial_id}' and tags.`{PARENT_TAG}` = '{sweep.run_id}'"
    found = tracking_client(sweep.uri).search_runs([sweep.experiment_id], wanted, max_results=1)
    if not found:
        return None
    return Run(uri=sweep.uri, experiment_id=sweep.experiment_id, run_id=found[0].info.run_id, private=sweep.private)


def open_trial(sweep: Run, trial_id: str, values: Mapping[str, Any]) -> Run:
    """Open the run of a trial: that of before where the sweep was restored, or a new one."""
    run = find_trial(sweep, trial_id)
    if run is not None:
        run.mark_running()
        return run
    params = {f"{SEARCHED}{name}": value for name, value in values.items()}
    return Run.start(f"trial {trial_id}", parent=sweep, params=params, tags={TRIAL_TAG: trial_id})


def close_trial(run: Run, state: State, error: str | None = None) -> None:
    """End the run of a trial and say how it ended."""
    run.set_tags({STATE_TAG: state} | ({ERROR_TAG: error[:500]} if error else {}))
    run.end(STATUS[state])


def close_leftovers(sweep: Run) -> int:
    """End the trials that are marked as running although nothing runs any more; return how many there were."""
    left = [record for record in read_trials(sweep) if record.state == "running"]
    for record in left:
        run = find_trial(sweep, record.trial_id)
        assert run is not None
        close_trial(run, "stopped")
    return len(left)


def read_trials(sweep: Run) -> list[TrialRecord]:
    """Return all trials of a sweep in the order of their start."""
    client = tracking_client(sweep.uri)
    wanted = f"tags.`{PARENT_TAG}` = '{sweep.run_id}' and tags.`{TRIAL_TAG}` != ''"
    order, records, token = ["attributes.start_time ASC"], [], None
    while True:
        page = client.search_runs([sweep.experiment_id], wanted, order_by=order, page_token=token)
        records += [_record(client, found) for found in page]
        if not (token := page.token):
            return records


def _record(client: Any, found: Any) -> TrialRecord:
    tags, params = found.data.tags, found.data.params
    known = OBJECTIVE in found.data.metrics
    history = client.get_metric_history(found.info.run_id, OBJECTIVE) if known else []
    return TrialRecord(
        trial_id=tags[TRIAL_TAG],
        run_id=found.info.run_id,
        state="running" if found.info.status == "RUNNING" else tags.get(STATE_TAG, "stopped"),
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
