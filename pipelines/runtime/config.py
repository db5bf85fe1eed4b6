"""Settings that jobs share: where runs are recorded, what a training runs on, and markers for flags."""

from typing import Annotated, Any, Literal, TypeVar

import tyro
from annotated_types import Ge, Gt

from fss.core.config import settings

Device = Literal["auto", "cpu", "cuda", "mps"]


class Required:
    """Marks a text setting that a job cannot run without; its default is the empty string."""


RequiredText = Annotated[str, Required(), tyro.conf.arg(help_behavior_hint="(required)")]
"""A text that has to be given. The empty default lets a preset be an instance of the configuration."""

T = TypeVar("T")
FLAT: Any = tyro.conf.arg(name="")
"""Annotation of nested settings whose flags carry no prefix: ``segmenter.image_size`` is ``--image-size``."""


@settings
class TrackingConfig:
    """Where runs are recorded."""

    uri: str | None = None
    """MLflow tracking URI. None: MLFLOW_TRACKING_URI, or sqlite:///mlflow.db in the working directory."""
    experiment: str = "fss"
    """MLflow experiment."""
    private: bool = False
    """Keep URIs, file names, pictures and reports out of MLflow; log numbers and plain settings only."""


@settings
class ScaleConfig:
    """What a training runs on."""

    workers: Annotated[int, Ge(1)] = 1
    """Data-parallel training processes; the stream's lanes are shared among them."""
    min_workers: Annotated[int, Ge(1)] | None = None
    """Fewest workers to go on with when machines are missing or die. None: all of them."""
    device: Device = "auto"
    """Device of the networks: cuda takes one GPU per worker; auto takes GPUs where there are any."""
    cpus_per_worker: Annotated[float, Gt(0)] = 1.0
    """Logical CPUs that each training worker reserves; a local Ray has at least 4."""
    threads_per_worker: Annotated[int, Ge(1)] | None = None
    """Threads that each training worker computes with. None: its share of the machine's cores."""
    max_failures: Annotated[int, Ge(0)] = 2
    """Restarts from the last checkpoint after a worker or node dies."""
    keep_checkpoints: Annotated[int, Ge(1)] = 2
    """Checkpoints to keep; the best and the latest are always kept."""

    def __post_init__(self) -> None:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers must not exceed workers ({self.workers}), got {self.min_workers}")
