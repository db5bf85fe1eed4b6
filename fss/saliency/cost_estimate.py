"""Cost estimate of pseudo-masks for a collection of any size: hours, bytes, requests and rates.

A sample of the collection is measured on one thread of this machine; the rest is arithmetic.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from fss.collection import Collection
from fss.collection.part_pipeline import IMAGE_COLUMNS, decode_row
from fss.collection.schema import image_table, make_image_id, mask_table
from fss.core.rng import keyed_rng
from fss.core.system import one_thread
from fss.images.decode import inspect_image
from fss.images.limits import DecodeLimits
from fss.saliency.config import Fleet
from fss.saliency.estimators import EstimatorSettings, create_estimator
from fss.saliency.pseudomask import encode_mask_row, estimate_all

# Requests to the object store per part, as counted by tests/pipelines/runtime/test_object_store.py.
READS_PER_PART = 14  # of the pseudo-mask job: metadata, the image part, and its ids again before writing
INGEST_READS_PER_PART = 8
INGEST_READS_PER_IMAGE = 2  # of its size and of its bytes
WRITE_BLOCK = 10 * 2**20  # bytes of a piece of a multipart upload, which has one more request to open and one to close
KEYS_PER_LISTING = 1000
READS_PER_PREFIX, WRITES_PER_PREFIX = 5500, 3500  # requests per second that S3 guarantees per prefix

# Rates of the driver, measured by tests/benchmarks/bench_fleet.py on one core.
DISPATCHED_PER_S = 600  # tasks, with thousands of them in flight
DRIVER_JOB_S, DRIVER_ROW_S = 2.5, 9e-6  # seconds per job and per image, to start, to accept and to report
DRIVER_ROW_BYTES = 850  # of memory per image: the listing of files; an acceptance takes 400
DRIVER_BYTES = 8 * 2**30  # of memory that a driver may use
LISTED_PER_S = 11_800  # files

# How many parts the driver puts into a task, as in pipelines/runtime/part_calls.py.
TASK_S, TASKS_PER_S, MAX_PARTS = 0.5, 300, 256

T = TypeVar("T")


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


@one_thread()
def measure_sample(
    collection: Collection, settings: EstimatorSettings, *, images: int, seed: int, device: str
) -> CostSample:
    """Estimate the masks of a random sample of a collection without writing them, and measure the cost.

    Args:
        collection: a collection with at least one usable image.
        settings: settings of the estimator.
        images: size of the sample; it comes from up to ``images / 8`` parts.
        seed: seed of the draw of the parts.
        device: where a network runs.

    Raises:
        ValueError: no image of the sample is usable.
    """
    names = collection.part_names()
    parts = keyed_rng(seed, item=len(names), purpose="plan sample").permutation(len(names))[: max(1, images // 8)]
    rows: list[dict[str, Any]] = []
    for index in parts:
        first_rows = slice(-(-images // len(parts)))
        rows += collection.read_part(names[int(index)], IMAGE_COLUMNS, rows=first_rows).to_pylist()
    rows = [row for row in rows if not row["error"]][:images]
    if not rows:
        raise ValueError(f"the sample of {collection.uri} holds no usable image; look at its quarantine table")
    pictures, decode_s = _timed(lambda: [decode_row(row, collection.limits) for row in rows])
    good = [picture for picture in pictures if picture.rgb is not None]
    estimator = create_estimator(settings, device=device)
    estimate_all(estimator, good[:2])  # warm up: compiling and loading happen once per process
    start = time.perf_counter()
    results, estimate_s = _timed(lambda: estimate_all(estimator, good))
    wall = time.perf_counter() - start
    mask_rows, encode_s = _timed(lambda: [encode_mask_row(*pair) for pair in zip(good, results, strict=True)])
    stored = [row for row, picture in zip(rows, pictures, strict=True) if row["image"] and picture.rgb is not None]
    _, ingest_s = _timed(lambda: [_inspect(row, collection.limits) for row in stored])
    count = len(good)
    return CostSample(
        images=count,
        image_bytes=_size(image_table({**row, "image": row["image"] or b""} for row in rows)) / len(rows),
        mask_bytes=_size(mask_table(mask_rows)) / count,
        cpu_s={"decode": decode_s / count, "estimate": estimate_s / count, "encode": encode_s / count},
        gpu_s=0.0 if device == "cpu" else wall / count,
        ingest_s=ingest_s / max(1, len(stored)),
    )


def mask_limits(sample: CostSample, fleet: Fleet) -> dict[str, float]:
    """Return how many images per second each part of a fleet can make masks of, by its name; the least one counts.

    Raises:
        ValueError: the sample was measured on a GPU and the fleet has none.
    """
    if sample.gpu_s and not fleet.gpus:
        raise ValueError("the sample was measured on a GPU; give the fleet at least one, or measure on the CPU")
    part, core_s = fleet.part_size, sum(sample.cpu_s.values()) / fleet.efficiency
    limits = {f"{fleet.cores:,} cores": fleet.cores * _busy(fleet) / core_s}
    if sample.gpu_s:
        limits[f"{fleet.gpus:,} GPUs"] = fleet.gpus * fleet.efficiency / sample.gpu_s
    return limits | {
        "dispatch": _dispatched(core_s, fleet),
        "S3 reads": part / READS_PER_PART * READS_PER_PREFIX,
        "S3 writes": part / requests_to_write(part * sample.mask_bytes) * WRITES_PER_PREFIX,
    }


def ingest_limits(sample: CostSample, fleet: Fleet) -> dict[str, float]:
    """Return how many images per second each part of a fleet can ingest from files, by its name."""
    part, core_s = fleet.part_size, max(sample.ingest_s, 1e-9) / fleet.efficiency
    reads = INGEST_READS_PER_IMAGE + INGEST_READS_PER_PART / part
    return {
        f"{fleet.cores:,} cores": fleet.cores * _busy(fleet) / core_s,
        "dispatch": _dispatched(core_s, fleet),
        "S3 reads": READS_PER_PREFIX * fleet.source_prefixes / reads,
        "S3 writes": part / requests_to_write(part * sample.image_bytes) * WRITES_PER_PREFIX,
        "listing": LISTED_PER_S,
    }


def driver_seconds(fleet: Fleet) -> float:
    """Return the seconds of the drivers before and after their tasks, for all images."""
    return _collections(fleet) * DRIVER_JOB_S + fleet.images * DRIVER_ROW_S


def estimate_cost(sample: CostSample, fleet: Fleet) -> dict[str, Any]:
    """Return the cost of pseudo-masks for the images of a fleet, as text by quantity.

    Raises:
        ValueError: the sample was measured on a GPU and the fleet has none.
    """
    parts = -(-int(fleet.images) // fleet.part_size)
    cpu_s, gpu_s = fleet.images * sum(sample.cpu_s.values()), fleet.images * sample.gpu_s
    limits, ingest = mask_limits(sample, fleet), ingest_limits(sample, fleet)
    masks_s, driver_s = fleet.images / min(limits.values()), driver_seconds(fleet)
    part_s = max(cpu_s / parts, gpu_s / parts) / fleet.efficiency
    lost = fleet.interruptions * part_s / 3600 / 2
    masks_s *= 1 + lost
    image_part, mask_part = (fleet.part_size * size for size in (sample.image_bytes, sample.mask_bytes))
    writes = {"masks": requests_to_write(mask_part) * parts, "ingest": requests_to_write(image_part) * parts}
    reads = {
        "masks": READS_PER_PART * parts,
        "ingest": INGEST_READS_PER_PART * parts + INGEST_READS_PER_IMAGE * int(fleet.images),
    }
    rate = sum(sample.cpu_s.values())
    return {
        "measured": f"{sample.images} images, {1 / rate:.1f} images/s on one core ("
        + ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in sample.cpu_s.items())
        + f"), {sample.image_bytes / 1000:.1f} kB a photograph, {sample.mask_bytes / 1000:.1f} kB a mask",
        "images": f"{fleet.images:,.0f} in {parts:,} parts of {fleet.part_size:,}",
        "CPU hours": f"{cpu_s / 3600 / fleet.efficiency:,.0f}",
        "GPU hours": f"{gpu_s / 3600 / fleet.efficiency:,.0f}" if gpu_s else "none: the estimator runs on the CPU",
        "wall time": f"{duration(masks_s + driver_s)}: masks {duration(masks_s)}, start and acceptance "
        f"{duration(driver_s)} on one core",
        "limits, masks": _limits(limits),
        "ingest": f"{duration(fleet.images / min(ingest.values()))} from files",
        "limits, ingest": _limits(ingest),
        "storage": f"images {_bytes(fleet.images * sample.image_bytes)}, masks "
        f"{_bytes(fleet.images * sample.mask_bytes)}; {2 * parts:,} objects of {_bytes(image_part)} and "
        f"{_bytes(mask_part)}",
        "requests, masks": _requests(writes["masks"], reads["masks"], parts / KEYS_PER_LISTING),
        "requests, ingest": _requests(writes["ingest"], reads["ingest"], fleet.images / KEYS_PER_LISTING),
        "request rate": f"{reads['masks'] / masks_s:,.1f} reads/s and {writes['masks'] / masks_s:,.2f} writes/s, "
        f"{_bytes(fleet.images * (sample.image_bytes + sample.mask_bytes) / masks_s)}/s",
        "collections": f"{_collections(fleet):,}, one after the other, so that a driver lists and accepts in "
        f"{_bytes(DRIVER_BYTES)} of memory; their parts keep the cores busy for {_busy(fleet):.0%} of the time",
        "spot machines": f"a part takes {duration(part_s)}; an interruption costs each of its workers half of that, "
        f"{lost:.2%} of the work at {fleet.interruptions:g} an hour",
    }


def duration(seconds: float) -> str:
    """Format a duration in a suitable unit."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def requests_to_write(part: float) -> int:
    """Return the number of requests that write a part of this many bytes to an object store."""
    return 1 if part <= WRITE_BLOCK else 2 - int(-part // WRITE_BLOCK)


def _collections(fleet: Fleet) -> int:
    """Return into how many collections the images have to be divided."""
    return -(-int(fleet.images) * DRIVER_ROW_BYTES // DRIVER_BYTES)


def _busy(fleet: Fleet) -> float:
    """Return the share of the time that the cores have work: in its last parts, a collection has fewer than cores."""
    per_core = fleet.images / fleet.part_size / _collections(fleet) / fleet.cores
    return per_core / math.ceil(per_core)


def _dispatched(core_s: float, fleet: Fleet) -> float:
    """Return the images per second that a driver can hand out, whose tasks have several parts where parts are short."""
    task_s = max(TASK_S, fleet.cores / TASKS_PER_S)
    parts = max(1, min(MAX_PARTS, int(task_s / (core_s * fleet.part_size))))
    return DISPATCHED_PER_S * parts * fleet.part_size


def _limits(limits: dict[str, float]) -> str:
    """Return the limits in words, the one that counts first."""
    first, *others = sorted(limits.items(), key=lambda limit: limit[1])
    return f"{first[0]} bind at {first[1]:,.0f} images/s; " + ", ".join(f"{name} {rate:,.0f}" for name, rate in others)


def _requests(writes: float, reads: float, listings: float) -> str:
    return f"{writes:,.0f} PUT and POST, {reads:,.0f} GET and HEAD, {max(1, listings):,.0f} LIST"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} PB"


def _inspect(row: dict[str, Any], limits: DecodeLimits) -> tuple[str, tuple[int, int, str]]:
    """Return what an ingest finds out about the bytes of an image: its id, and its size and format."""
    return make_image_id(row["image"], row["uri"]), inspect_image(row["image"], limits)


def _timed(work: Callable[[], list[T]]) -> tuple[list[T], float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def _size(table: pa.Table) -> int:
    """Return the bytes of a table, which approximate its file because JPEG and PNG do not compress further."""
    return int(table.nbytes)
