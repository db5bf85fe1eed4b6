"""Callbacks of the sweep's driver: they log trials to MLflow, print progress lines, and free resources."""

import sys
import time
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from fss.tracking.delivery import ERROR_TAG
from fss.tracking.run import Run
from pipelines.runtime.ray_internals import remove_dead_reservations
from pipelines.tuning.journal import TRIAL, VALUES, Journal
from pipelines.tuning.trial_runs import OBJECTIVE, close_trial, find_trial, open_trial

BEST = "val/best_objective"
"""Metric of the sweep: the best objective, at the number of trials that ended."""
STEP = "step"
"""Training step in a report, by which ASHA prunes; unlike Tune's iteration, it survives a restore."""


LOOK_S = 5.0  # seconds between looks at the cluster's resources


class TrialRuns(tune.Callback):
    """Logs one child run per trial.

    The process of the trial opens the run, and this callback ends it, because ASHA kills that process before its
    training returns.
    """

    def __init__(self, sweep: Run, journal: Journal, *, objective: str, mode: str, steps: int, trials: int):
        """Configure the callback.

        Args:
            sweep: parent run of the trials.
            journal: all trials of the sweep.
            objective: name of the metric in the reports.
            mode: direction of the objective, min or max.
            steps: number of steps of a completed training.
            trials: number of trials of the sweep.
        """
        self.sweep, self.journal, self.objective, self.mode = sweep, journal, objective, mode
        self.steps, self.trials = steps, trials

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Log the objective at its step, unless a restarted trial repeats the step."""
        run = find_trial(self.sweep, trial.config[TRIAL])
        if run is not None and result[STEP] > run.last_step(OBJECTIVE):
            run.log_metrics({OBJECTIVE: result[self.objective]}, step=result[STEP])

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """End the run of a trial that returned or was stopped by the scheduler."""
        reached = int(trial.last_result.get(STEP, 0))
        completed = reached >= self.steps
        close_trial(self._open(trial), "completed" if completed else "pruned")
        self._print_line(trial, "" if completed else f", stopped after {reached} of {self.steps} steps")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """End the run of a failed trial with the reason."""
        run = find_trial(self.sweep, trial.config[TRIAL]) or self._open(trial)
        logged = run.tag(ERROR_TAG)
        reason = logged or why(trial.get_pickled_error() or trial.get_error())
        close_trial(run, "failed", reason)
        self._print_line(trial, f", failed: {reason}")

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """End the runs of trials that were interrupted."""
        for trial in trials:
            run = None if _ended(trial) else find_trial(self.sweep, trial.config[TRIAL])
            if run is not None:
                close_trial(run, "stopped")

    def _open(self, trial: Trial) -> Run:
        return open_trial(self.sweep, trial.config[TRIAL], trial.config[VALUES])

    def _print_line(self, trial: Trial, outcome: str) -> None:
        best, trial_id = max if self.mode == "max" else min, trial.config[TRIAL]
        scores = [each.objective for each in self.journal.trials if each.objective is not None]
        ended = sum(each.state != "running" for each in self.journal.trials)
        if scores and ended > self.sweep.last_step(BEST):
            self.sweep.log_metrics({BEST: best(scores)}, step=ended)
        score = self.journal[trial_id].objective
        print(
            f"[tune] {ended}/{self.trials} trials: {trial_id} "
            f"{'not validated' if score is None else f'{self.objective} {score:.4f}'}{outcome}"
            + (f"; best {best(scores):.4f}" if scores else ""),
            file=sys.stderr,
            flush=True,
        )


class ReservationCleaner(tune.Callback):
    """Frees the resources that the trainings of stopped trials reserved.

    Tune kills the process of a stopped trial and with it the controller of its training, but Ray keeps the reservation
    of the controller until the job ends. Ray Train can free such reservations with the help of the dashboard, which a
    local Ray does not have, so each stopped trial would block a CPU.
    """

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Remove the reservations of dead controllers, which takes a millisecond."""
        remove_dead_reservations()


class GrowingConcurrency(tune.Callback):
    """Lets more trials run as machines join the cluster: one more than fits, so that an autoscaler sees the demand."""

    def __init__(self, limiter: Any, fitting: Callable[[], int]) -> None:
        """Describe the limit.

        Args:
            limiter: searcher with the attribute ``max_concurrent``.
            fitting: returns how many trials fit on the cluster at the moment; picklable.
        """
        self.limiter, self.fitting, self.looked = limiter, fitting, 0.0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look at the cluster every few seconds."""
        if time.time() - self.looked >= LOOK_S:
            self.looked = time.time()
            self.limiter.max_concurrent = self.fitting() + 1


def _ended(trial: Trial) -> bool:
    return bool(trial.is_finished())  # type: ignore[no-untyped-call]


def why(error: BaseException | None) -> str:
    """Return the cause of a trial's failure in one line, without Ray's wrapping errors."""
    if error is None:
        return "its process died"
    cause: BaseException = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    name = type(cause).__name__
    # The text of a TuneError is a traceback, whose last line is the exception.
    return (lines[-1] if name == "TuneError" else f"{name}: {lines[0]}") if lines else name
