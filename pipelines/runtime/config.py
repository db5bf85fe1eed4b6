"""Settings that jobs share: tracking and scale."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where runs are recorded."""

    uri: str | None = None
    """MLflow tracking URI; None: MLFLOW_TRACKING_URI, or sqlite:///mlflow.db in the working directory."""
    experiment: str = "fss"
    """MLflow experiment."""
    private: bool = False
    """Keep URIs, file names, pictures and reports out of MLflow: numbers and plain settings only."""


@dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """On what a training job runs."""

    workers: int = 1
    """Data-parallel processes, at most the stream's lanes; they share the work evenly where they divide these."""
    min_workers: int | None = None
    """Fewest to go on with when machines are missing or die; more join again as they come. None: always all."""
    gpu: bool | None = None
    """One GPU per worker; None: when the cluster has one for each right now, so say it where machines start on
    demand."""
    cpus: float = 1.0
    """Logical CPUs that each worker reserves; a local session has at least 4."""
    threads: int | None = None
    """Threads that each worker computes with; None: its share of the machine's cores, as if nothing else ran there."""
    max_failures: int = 2
    """Restarts from the last checkpoint after a worker or node dies."""
    keep: int = 2
    """Checkpoints to keep besides the best; the latest is always kept."""

    def __post_init__(self) -> None:
        if not 1 <= (self.min_workers or 1) <= self.workers:
            raise ValueError(f"min_workers lies within 1 and the workers ({self.workers}), got {self.min_workers}")
