"""The utilisation of a machine as metrics of a run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fss.tracking.run import Run

_FIRST = "cpu_utilization_percentage"  # MLflow measures it on every machine


@contextmanager
def monitor_system(run: Run, *, node: str | None = None) -> Iterator[None]:
    """Log system metrics (system/cpu_utilization_percentage, ...) every ten seconds while the block runs.

    GPU metrics are included if the package nvidia-ml-py is installed.

    Args:
        run: run to log to.
        node: name of the machine, if several log to one run.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    class Monitor(SystemMetricsMonitor):
        """MLflow's measurements, logged by the run. MLflow's own thread ends when the store does not answer."""

        def monitor(self) -> None:
            """Measure and log until the block ends."""
            while not self._shutdown_event.is_set():
                for _ in range(self.samples_before_logging):
                    self.collect_metrics()  # type: ignore[no-untyped-call]
                    if self._shutdown_event.wait(self.sampling_interval):
                        return
                self.publish_metrics(self.aggregate_metrics())  # type: ignore[no-untyped-call]

        def publish_metrics(self, metrics: dict[str, float]) -> None:
            """Log measured values at the next step."""
            run.log_metrics({f"{prefix}{name}": value for name, value in metrics.items()}, step=self._logging_step)
            self._logging_step += 1
            for each in self.monitors:
                each.clear_metrics()  # type: ignore[no-untyped-call]

    logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
    prefix = f"system/{node}/" if node else "system/"
    monitor = Monitor(run.run_id, tracking_uri=run.uri)  # type: ignore[no-untyped-call]
    monitor._logging_step = run.last_step(f"{prefix}{_FIRST}") + 1
    monitor.start()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        monitor.finish()  # type: ignore[no-untyped-call]
