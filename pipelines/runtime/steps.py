"""The steps of a training, for any loop and any place of its checkpoints; Ray is not imported."""

import io
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch

from fss.collection import part_io
from fss.core import storage
from fss.core.exit_codes import defer_interrupts
from fss.models.weights.reading import open_weights
from fss.training.loop import StepReport

STATE = "loop.pt"
"""File with the state of a training loop."""


class Resumable(Protocol):
    """A training loop whose state can be saved and restored."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the loop."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a loop."""


class Writer(Protocol):
    """A worker's work besides the training."""

    def add(self, report: StepReport) -> None:
        """Add the report of a step."""

    def save(self, *, validate: bool = True) -> None:
        """Write a checkpoint of the current state, together with the other workers.

        Without validation it takes little time, and the training only resumes from it.
        """


def run_steps(
    reports: Iterable[StepReport],
    writer: Writer,
    *,
    due: Callable[[int], bool],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train to the last step, and save checkpoints.

    In the main thread of a process, Ctrl-C and SIGTERM end the training after a checkpoint.

    Args:
        reports: the lazy reports of a training loop; iterating runs the steps.
        writer: logs the steps and writes the checkpoints.
        due: whether a checkpoint is written after a step, counted from 1.
        stop: whether to end after a checkpoint; called before the first step and after every step.

    Raises:
        KeyboardInterrupt: the training was interrupted; its checkpoint is written.
    """
    if stop():
        return
    with defer_interrupts() as check:
        for report in reports:
            writer.add(report)
            saved = due(report.step)
            if saved:
                writer.save()
            try:
                check()
            except KeyboardInterrupt:
                if not saved:
                    writer.save(validate=False)
                raise
            if stop():
                if not saved:
                    writer.save(validate=False)
                return


def every(steps: int, *, last: int) -> Callable[[int], bool]:
    """Return whether a step is a multiple of ``steps`` or the last one."""
    return lambda step: step % steps == 0 or step == last


def save_state(output_dir: str, loop: Resumable) -> None:
    """Write the state of a loop into a folder, a local path or s3:// URI; it replaces an earlier one as a whole."""
    data = io.BytesIO()
    torch.save(loop.state_dict(), data)
    storage.write_atomically(*storage.resolve(storage.join(output_dir, STATE)), data.getbuffer())


def load_state(output_dir: str, loop: Resumable) -> None:
    """Restore the state of a loop from a folder, if it holds one."""
    if part_io.exists(file := storage.join(output_dir, STATE)):
        loop.load_state_dict(open_weights(file).content)


def delete_state(output_dir: str) -> None:
    """Delete the state in a folder, if it holds one."""
    if part_io.exists(file := storage.join(output_dir, STATE)):
        part_io.delete(file)
