"""Settings that jobs share: MLflow tracking, the machines of a training, and markers for flags."""

from typing import Annotated, Any, Literal, TypeVar

import tyro
from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator

from fss.collection.part_io import check_name
from fss.core.config import settings
from fss.core.flags import Required
from fss.core.privacy import Public

Device = Literal["auto", "cpu", "cuda", "mps"]


RequiredText = Annotated[str, Required()]
"""A required text. Its empty default makes it possible for a preset to be an instance of the configuration."""


def _check_set_name(name: str) -> str:
    check_name(name, "it")
    return name


def _check_subfolder(name: str) -> str:
    """Refuse a name that leads out of the output folder, or to the folder of all checkpoints."""
    if not name or name.startswith(".") or "/" in name or not name.isprintable() or name == "ray":
        raise ValueError(
            f"it cannot be {name!r}, because it names a subfolder of the output; give a name without slashes that "
            "does not begin with a dot and is not ray"
        )
    return name


SetName = Annotated[str, AfterValidator(_check_set_name)]
"""Name of a mask set or an acceptance to write; a wrong one is refused before any work."""
Subfolder = Annotated[str, AfterValidator(_check_subfolder)]
"""Name of what a job makes, which is that of its folder in the output folder."""
T = TypeVar("T")
FLAT: Any = tyro.conf.arg(name="")
"""Annotation of nested settings whose flags carry no prefix: ``segmenter.image_size`` is ``--image-size``."""


@settings
class TrackingConfig:
    """Where MLflow runs are logged."""

    uri: str | None = None
    """MLflow tracking URI. None: MLFLOW_TRACKING_URI, or sqlite:///mlflow.db in the working directory."""
    experiment: Annotated[str, Public()] = "fss"
    """MLflow experiment."""
    private: bool = False
    """Log numbers and the settings with listed values only: no path, name, text, picture or report."""


@settings
class PartFailureConfig:
    """What happens to parts that fail."""

    max_failed_parts: Annotated[float, Ge(0), Le(1)] = 0.01
    """Share of the parts that may fail in every try; up to it the job ends with exit code 3, beyond it with 1."""
    part_timeout: Annotated[float, Gt(0)] | None = None
    """Seconds after which a part counts as failed and its process is replaced. None: no limit."""


@settings
class ScaleConfig:
    """Machines of a training."""

    workers: Annotated[int, Ge(1)] = 1
    """Data-parallel training processes; the batch is shared among them."""
    min_workers: Annotated[int, Ge(1)] | None = None
    """Fewest workers to continue with while machines are missing. None: all of them."""
    device: Device = "auto"
    """Device of the networks: cuda takes one GPU per worker; auto uses GPUs if there are any."""
    cpus_per_worker: Annotated[float, Gt(0)] = 1.0
    """Logical CPUs that each training worker reserves; a local Ray has at least 4."""
    threads_per_worker: Annotated[int, Ge(1)] | None = None
    """Computing threads of each training worker. None: its share of the machine's cores."""
    max_failures: Annotated[int, Ge(0)] = 2
    """Restarts from the last checkpoint after a worker or node dies."""
    stop_seconds: Annotated[float, Ge(0)] = 20.0
    """Seconds for a last checkpoint after Ctrl-C or SIGTERM; Kubernetes kills after 30, a spot machine after 120."""
    keep_checkpoints: Annotated[int, Ge(1)] = 2
    """Checkpoints to keep; the best and the latest are always kept."""

    def __post_init__(self) -> None:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers must not exceed workers ({self.workers}), got {self.min_workers}")
