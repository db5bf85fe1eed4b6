"""The logged curves of a training: means over a few steps, and no step twice after a resume."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from fss.tracking.run import Run
from fss.training.loop import StepReport

LOSS, SPEED, WAIT = "train/loss", "speed/steps_per_second", "speed/data_wait_share"


@dataclass(kw_only=True)
class MetricsLogger:
    """Collects step reports and logs their means every few steps."""

    run: Run
    """MLflow run to log to."""
    every: int
    """Steps between logged points."""
    episodes: int
    """Episodes per step, over all workers."""
    images: int
    """Images per episode, the query included."""
    last: int | None = None
    """Last step of the training, which is always logged; None: it is not known before."""
    _reports: list[StepReport] = field(default_factory=list)
    _start: float = field(default_factory=time.perf_counter)
    _logged: dict[str, int] = field(default_factory=dict)

    def add(self, report: StepReport, *, always: bool = False) -> None:
        """Add the report of a step; log the means at every ``every``-th step, at the last one, and ``always``."""
        self._reports.append(report)
        if report.step % self.every and report.step != self.last and not always:
            return
        count, busy = len(self._reports), sum(r.wait_s + r.compute_s for r in self._reports)
        waited = sum(r.wait_s for r in self._reports)
        elapsed, self._start = time.perf_counter() - self._start, time.perf_counter()
        metrics = {
            LOSS: sum(r.loss for r in self._reports) / count,
            "train/gradient_norm": sum(r.gradient_norm for r in self._reports) / count,
            "train/epoch": float(report.epoch),
            WAIT: waited / max(busy, 1e-9),
            SPEED: count / elapsed,
            "speed/episodes_per_second": count * self.episodes / elapsed,
            "speed/images_per_second": count * self.episodes * self.images / elapsed,
        }
        if torch.cuda.is_available():
            metrics["speed/gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        self._reports = []
        self.log(metrics, report.step)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics that the run does not have at ``step``: a resumed training repeats steps."""
        fresh = {name: value for name, value in metrics.items() if self.is_new(name, step)}
        if fresh:
            self.run.log_metrics(fresh, step=step)

    def is_new(self, metric: str, step: int) -> bool:
        """Return whether ``step`` is later than all logged steps of a metric."""
        if metric not in self._logged:
            self._logged[metric] = self.run.last_step(metric)
        return step > self._logged[metric]
