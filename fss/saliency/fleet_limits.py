"""How many photographs a fleet of machines can ingest and make masks of in a second, and what limits it.

Requests and the driver's rates were measured; the seconds of an image come from a sample.
"""

import math
from dataclasses import dataclass, field

from fss.saliency.config import Fleet

# Requests to the object store per part, as counted by tests/pipelines/runtime/test_object_store.py.
READS_PER_PART = 14  # of the pseudo-mask job: metadata, the image part, and its ids again before writing
INGEST_READS_PER_PART = 8
HASH_WRITES_PER_PART = 1  # of an ingest, besides the photographs
INGEST_READS_PER_IMAGE = 2  # of its size and of its bytes
WRITE_BLOCK = 10 * 2**20  # bytes of a piece of a multipart upload, which has one more request to open and one to close
KEYS_PER_LISTING = 1000
READS_PER_PREFIX, WRITES_PER_PREFIX = 5500, 3500  # requests per second that S3 guarantees per prefix

# Rates of the driver, measured by tests/benchmarks/bench_fleet.py on one core.
DISPATCHED_PER_S = 600  # tasks, with thousands of them in flight
DRIVER_JOB_S, DRIVER_ROW_S = 2.5, 9e-6  # seconds per job and per image, to start, to accept and to report
DRIVER_ROW_BYTES = 850  # of memory per image: the listing of files; an acceptance takes 400
DRIVER_BYTES = 8 * 2**30  # of memory that a driver may use
LISTED_PER_S = 23_000  # files

# How many parts the driver puts into a task, as in pipelines/runtime/part_calls.py.
TASK_S, TASKS_PER_S, MAX_PARTS = 0.5, 300, 256


@dataclass(frozen=True, kw_only=True)
class CostSample:
    """Measured cost of one image, averaged over a sample."""

    images: int
    """Number of images in the sample."""
    image_bytes: float
    """Bytes of a stored image."""
    mask_bytes: float
    """Bytes of a stored mask with its soft map and scores."""
    cpu_s: dict[str, float] = field(default_factory=dict)
    """CPU seconds by step: decode, estimate, encode."""
    gpu_s: float = 0.0
    """Seconds on the GPU; 0 for an estimator on the CPU."""
    ingest_s: float
    """CPU seconds to check and to hash the bytes of an image."""


def mask_limits(sample: CostSample, fleet: Fleet) -> dict[str, float]:
    """Return the images per second that each resource of a fleet allows for masks, by its name; the lowest counts.

    Raises:
        ValueError: the sample was measured on a GPU and the fleet has none.
    """
    if sample.gpu_s and not fleet.gpus:
        raise ValueError("the sample was measured on a GPU; give the fleet at least one, or measure on the CPU")
    part, core_s = fleet.part_size, sum(sample.cpu_s.values()) / fleet.efficiency
    limits = {f"{fleet.cores:,} cores": fleet.cores * busy_share(fleet) / core_s}
    if sample.gpu_s:
        limits[f"{fleet.gpus:,} GPUs"] = fleet.gpus * fleet.efficiency / sample.gpu_s
    return limits | {
        "dispatch": _dispatched(core_s, fleet),
        "S3 reads": part / READS_PER_PART * READS_PER_PREFIX,
        "S3 writes": part / requests_to_write(part * sample.mask_bytes) * WRITES_PER_PREFIX,
    }


def ingest_limits(sample: CostSample, fleet: Fleet) -> dict[str, float]:
    """Return the images per second that each resource of a fleet allows for an ingest from files, by its name."""
    part, core_s = fleet.part_size, max(sample.ingest_s, 1e-9) / fleet.efficiency
    reads = INGEST_READS_PER_IMAGE + INGEST_READS_PER_PART / part
    return {
        f"{fleet.cores:,} cores": fleet.cores * busy_share(fleet) / core_s,
        "dispatch": _dispatched(core_s, fleet),
        "S3 reads": READS_PER_PREFIX * fleet.source_prefixes / reads,
        "S3 writes": part / (HASH_WRITES_PER_PART + requests_to_write(part * sample.image_bytes)) * WRITES_PER_PREFIX,
        "listing": LISTED_PER_S,
    }


def driver_seconds(fleet: Fleet) -> float:
    """Return the seconds of the drivers before and after their tasks, for all images."""
    return count_collections(fleet) * DRIVER_JOB_S + fleet.images * DRIVER_ROW_S


def requests_to_write(part: float) -> int:
    """Return the number of requests that write a part of this many bytes, and its fragment, to an object store."""
    return 2 if part <= WRITE_BLOCK else 3 - int(-part // WRITE_BLOCK)


def count_collections(fleet: Fleet) -> int:
    """Return the number of collections that the images must be divided into."""
    return -(-int(fleet.images) * DRIVER_ROW_BYTES // DRIVER_BYTES)


def busy_share(fleet: Fleet) -> float:
    """Return the share of the time that the cores have work; a collection's last parts are fewer than the cores."""
    per_core = fleet.images / fleet.part_size / count_collections(fleet) / fleet.cores
    return per_core / math.ceil(per_core)


def _dispatched(core_s: float, fleet: Fleet) -> float:
    """Return the images per second that a driver can dispatch; a task has several parts if parts are short."""
    task_s = max(TASK_S, fleet.cores / TASKS_PER_S)
    parts = max(1, min(MAX_PARTS, int(task_s / (core_s * fleet.part_size))))
    return DISPATCHED_PER_S * parts * fleet.part_size
