"""What a sweep's driver does when a trial starts, says something or ends: MLflow, and a line for people."""

import sys
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from fss.tracking.run import Run, tracking_client
from pipelines.runtime.ray_internals import remove_dead_reservations
from pipelines.tuning.trial_runs import ERROR_TAG, OBJECTIVE, close_trial, find_trial, open_trial

BEST = "best_objective"
"""Metric of the sweep: the best objective, at the number of trials that ended."""
STEP = "step"
"""The training step of a report, by which ASHA prunes; it goes on where it was after a restore."""


class TrialRuns(tune.Callback):
    """Keeps one child run per trial.

    The trial's own process opens its run; only this callback ends it. ASHA stops that process before its training
    returns, so it could not.
    """

    def __init__(self, sweep: Run, *, objective: str, mode: str, steps: int, trials: int):
        """Open the callback.

        Args:
            sweep: the parent run.
            objective: name of the figure in the reports.
            mode: min or max.
            steps: of a whole training.
            trials: of a whole sweep.
        """
        self.sweep, self.objective, self.mode, self.steps, self.trials = sweep, objective, mode, steps, trials

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Log the objective at its step; a trial that was restored says some steps again."""
        run = find_trial(self.sweep, trial.trial_id)
        if run is not None and result[STEP] > run.last_step(OBJECTIVE):
            run.log_metrics({OBJECTIVE: result[self.objective]}, step=result[STEP])

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """End the run of a trial that returned, or that the scheduler stopped."""
        reached = int(trial.last_result.get(STEP, 0))
        whole = reached >= self.steps
        run = open_trial(self.sweep, trial.trial_id, trial.config)
        close_trial(run, "completed" if whole else "pruned")
        self._tell(trials, trial, "" if whole else f", stopped after {reached} of {self.steps} steps")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """End the run of a trial that failed, with its reason."""
        run = open_trial(self.sweep, trial.trial_id, trial.config)
        said = tracking_client(run.uri).get_run(run.run_id).data.tags.get(ERROR_TAG)
        reason = said or why(trial.get_pickled_error() or trial.get_error())
        close_trial(run, "failed", reason)
        self._tell(trials, trial, f", failed: {reason}")

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """End the runs of trials that an interruption left in the middle."""
        for trial in trials:
            run = None if _ended(trial) else find_trial(self.sweep, trial.trial_id)
            if run is not None:
                close_trial(run, "stopped")

    def _tell(self, trials: list[Trial], trial: Trial, words: str) -> None:
        best = max if self.mode == "max" else min
        known = [each.last_result[self.objective] for each in trials if self.objective in (each.last_result or {})]
        ended = sum(_ended(each) or each is trial for each in trials)
        if known and ended > self.sweep.last_step(BEST):
            self.sweep.log_metrics({BEST: best(known)}, step=ended)
        score = trial.last_result.get(self.objective)
        print(
            f"[tune] {ended}/{self.trials} trials: {trial.trial_id} "
            f"{'never judged' if score is None else f'{self.objective} {score:.4f}'}{words}"
            + (f"; best {best(known):.4f}" if known else ""),
            file=sys.stderr,
            flush=True,
        )


class ReservationCleaner(tune.Callback):
    """Frees what the trainings of stopped trials reserved.

    Tune ends a stopped trial's process, and with it the controller of its training, but Ray keeps what the controller
    reserved for the workers until the whole job ends. Ray Train's own remedy asks the dashboard which controllers live;
    a local Ray has none, and each stopped trial took a CPU with it.
    """

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look for reservations of dead controllers; the look takes a millisecond."""
        remove_dead_reservations()


def _ended(trial: Trial) -> bool:
    return bool(trial.is_finished())  # type: ignore[no-untyped-call]


def why(error: BaseException | None) -> str:
    """Return the cause of a trial's failure in one line: what its training said, not what Ray wrapped it in."""
    if error is None:
        return "its process died"
    cause: BaseException = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    name = type(cause).__name__
    # A text trace ends with the exception; an exception's message begins with what matters.
    return (lines[-1] if name == "TuneError" else f"{name}: {lines[0]}") if lines else name
