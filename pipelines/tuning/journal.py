"""The state of a sweep as JSON: its trials with their values and results, from which the search goes on.

Ray Tune stores its own state as pickles, which run code when they are read. A sweep never reads them. The searcher and
the scheduler are rebuilt from this file instead, whose values are checked like settings.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import StringConstraints

from fss.collection.part_io import exists, write_json
from fss.core.config import from_dict, settings, to_dict
from pipelines.runtime.output_dir import read_record
from pipelines.tuning.space import Dimension

JOURNAL = "search.json"
"""Name of the file in the folder of the sweep."""
TRIAL, VALUES = "trial", "values"
"""Keys of a trial's configuration in Tune: the id in the sweep, and the drawn values by dimension."""


@settings
class TrialRecord:
    """A trial of a sweep."""

    trial_id: Annotated[str, StringConstraints(pattern=r"^\w{1,40}$")]
    """Id of the trial, which also names its folder."""
    values: dict[str, Any]
    """Drawn values by dimension."""
    state: Literal["running", "completed", "pruned", "failed"] = "running"
    """State of the trial; a trial that the end of the job interrupted is running."""
    curve: tuple[tuple[Annotated[int, Ge(0)], float], ...] = ()
    """Reported steps with their objectives."""

    @property
    def objective(self) -> float | None:
        """Last reported objective; None if there is none."""
        return self.curve[-1][1] if self.curve else None


class Journal:
    """The trials of a sweep in the order in which they were drawn; every change is written at once."""

    def __init__(self, uri: str, trials: Iterable[TrialRecord] = ()) -> None:
        """Start with trials.

        Args:
            uri: the file.
            trials: the trials so far.
        """
        self._uri = uri
        self._trials = {trial.trial_id: trial for trial in trials}

    @classmethod
    def read(cls, uri: str, space: Mapping[str, Dimension]) -> "Journal | None":
        """Read the trials of a sweep; None if there is no file.

        Args:
            uri: the file.
            space: search space of the sweep.

        Raises:
            ValueError: the file is no journal, or a value is not in the search space.
        """
        if not exists(uri):
            return None
        advice = "Delete it, and the trials are read from MLflow, or give --overwrite to start the sweep again"
        values = read_record(uri, {"trials": list}, advice)["trials"]
        try:
            trials = [from_dict(TrialRecord, each) for each in values]
        except (ValueError, TypeError) as error:  # TypeError: a trial is no object
            raise ValueError(f"{uri} is damaged: {error}. {advice}") from error
        if len({trial.trial_id for trial in trials}) < len(trials):
            raise ValueError(f"{uri} is damaged: it has a trial twice. {advice}")
        return cls(uri, (checked(trial, space, uri) for trial in trials))

    @property
    def trials(self) -> list[TrialRecord]:
        """The trials."""
        return list(self._trials.values())

    def __getitem__(self, trial_id: str) -> TrialRecord:
        return self._trials[trial_id]

    def add(self, trial_id: str, values: Mapping[str, Any]) -> TrialRecord:
        """Add a trial that is about to run."""
        return self._keep(TrialRecord(trial_id=trial_id, values=dict(values)))

    def restart(self, trial_id: str) -> None:
        """Mark a trial as running again."""
        self._keep(replace(self[trial_id], state="running"))

    def report(self, trial_id: str, step: int, objective: float) -> None:
        """Add a result of a trial, unless a restarted trial repeats the step or the result is no finite number."""
        trial = self[trial_id]
        if math.isfinite(objective) and (not trial.curve or step > trial.curve[-1][0]):
            self._keep(replace(trial, curve=(*trial.curve, (step, float(objective)))))

    def end(self, trial_id: str, state: Literal["completed", "pruned", "failed"]) -> None:
        """Set the final state of a trial."""
        self._keep(replace(self[trial_id], state=state))

    def _keep(self, trial: TrialRecord) -> TrialRecord:
        self._trials[trial.trial_id] = trial
        write_json(self._uri, {"trials": [to_dict(each) for each in self._trials.values()]})
        return trial


def checked(trial: TrialRecord, space: Mapping[str, Dimension], source: str) -> TrialRecord:
    """Return a trial whose values are those of a search space.

    Raises:
        ValueError: a dimension is missing or unknown, or a value is outside.
    """
    wrong = sorted(trial.values.keys() ^ space.keys()) or [
        f"{name} = {value!r}" for name, value in trial.values.items() if not space[name].holds(value)
    ]
    if wrong:
        raise ValueError(
            f"trial {trial.trial_id} of {source} is not in the search space of the sweep: {', '.join(wrong[:3])}. Give "
            "--overwrite to start the sweep again"
        )
    return trial
