"""What a collection of any size would cost, from a measured sample of it: hours, bytes, requests, rates.

The sample is measured here and now, on one thread; everything else is arithmetic that can be checked by hand.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from fss.collection import Collection
from fss.collection.part_pipeline import IMAGE_COLUMNS, decode_row
from fss.collection.schema import image_table, mask_table
from fss.core.rng import keyed_rng
from fss.saliency.config import Fleet
from fss.saliency.estimators import EstimatorSettings, create_estimator
from fss.saliency.pseudomask import encode_mask_row, estimate_all

# Requests to the object store per part; tests/pipelines/runtime/test_object_store.py counts them at a server.
READS_PER_PART = 14  # of the pseudo-mask job: its records, the image part, and the ids again before writing
INGEST_READS_PER_PART = 8
INGEST_READS_PER_IMAGE = 2  # its size, its bytes
WRITE_BLOCK = 10 * 2**20  # a larger part is written in pieces of this size, opened and closed by one request each
KEYS_PER_LISTING = 1000
READS_PER_PREFIX, WRITES_PER_PREFIX = 5500, 3500  # per second, as AWS documents for S3
SCORE_ROW_BYTES = 300  # of the driver's memory per image while it accepts (measured: bench_pseudomask.py)
DRIVER_BYTES = 8 * 2**30  # what one driver may take for it

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CostSample:
    """What one image costs, measured; the mean of a sample."""

    images: int
    """Images measured."""
    image_bytes: float
    """Stored photograph."""
    mask_bytes: float
    """Stored mask, soft map and scores."""
    cpu_s: dict[str, float] = field(default_factory=dict)
    """CPU seconds of one thread by step: decode, estimate, encode."""
    gpu_s: float = 0.0
    """Seconds that an estimator on a GPU holds it."""


def measure_sample(
    collection: Collection, settings: EstimatorSettings, *, images: int, seed: int, device: str
) -> CostSample:
    """Make masks of a random sample of a collection, without keeping them.

    Args:
        collection: with at least one good image.
        settings: of the estimator.
        images: to measure; they come from as many parts as an eighth of them.
        seed: draws the parts.
        device: where a network runs.

    Raises:
        ValueError: no image of the sample can be used.
    """
    names = collection.part_names()
    drawn = keyed_rng(seed, item=len(names), purpose="plan sample").permutation(len(names))[: max(1, images // 8)]
    records: list[dict[str, Any]] = []
    for place in drawn:
        part = collection.read_part(names[int(place)], IMAGE_COLUMNS)
        records += part.slice(0, -(-images // len(drawn))).to_pylist()
    records = [record for record in records if not record["error"]][:images]
    if not records:
        raise ValueError(f"the sample of {collection.uri} holds no usable image; look at its quarantine table")
    pictures, decode_s = _timed(lambda: [decode_row(record, collection.limits) for record in records])
    good = [picture for picture in pictures if picture.rgb is not None]
    estimator = create_estimator(settings, device=device)
    estimate_all(estimator, good[:2])  # compiling and loading happen once per process, not per image
    start = time.perf_counter()
    results, estimate_s = _timed(lambda: estimate_all(estimator, good))
    wall = time.perf_counter() - start
    rows, encode_s = _timed(lambda: [encode_mask_row(*pair) for pair in zip(good, results, strict=True)])
    count = len(good)
    return CostSample(
        images=count,
        image_bytes=_size(image_table({**r, "image": r["image"] or b""} for r in records)) / len(records),
        mask_bytes=_size(mask_table(rows)) / count,
        cpu_s={"decode": decode_s / count, "estimate": estimate_s / count, "encode": encode_s / count},
        gpu_s=0.0 if device == "cpu" else wall / count,
    )


def estimate_cost(sample: CostSample, fleet: Fleet) -> dict[str, Any]:
    """Return the cost of a fleet's job, as lines for people: what -> how much."""
    parts = -(-int(fleet.images) // fleet.part_size)
    cpu_s, gpu_s = fleet.images * sum(sample.cpu_s.values()), fleet.images * sample.gpu_s
    if gpu_s and not fleet.gpus:
        raise ValueError("the sample was measured on a GPU; give the fleet at least one, or measure on the CPU")
    wall = max(cpu_s / fleet.cores, gpu_s / max(1, fleet.gpus)) / fleet.efficiency
    part_s = wall / parts * (fleet.gpus or fleet.cores)
    lost = fleet.interruptions * part_s / 3600 / 2
    wall *= 1 + lost
    image_part, mask_part = (fleet.part_size * size for size in (sample.image_bytes, sample.mask_bytes))
    writes = {"masks": requests_to_write(mask_part) * parts, "ingest": requests_to_write(image_part) * parts}
    reads = {
        "masks": READS_PER_PART * parts,
        "ingest": INGEST_READS_PER_PART * parts + INGEST_READS_PER_IMAGE * int(fleet.images),
    }
    read_rate, write_rate = reads["masks"] / wall, writes["masks"] / wall
    collections = -(-int(fleet.images) * SCORE_ROW_BYTES // DRIVER_BYTES)
    return {
        "measured": f"{sample.images} images, {1 / sum(sample.cpu_s.values()):.1f} images/s on one core ("
        + ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in sample.cpu_s.items())
        + f"), {sample.image_bytes / 1000:.1f} kB a photograph, {sample.mask_bytes / 1000:.1f} kB a mask",
        "images": f"{fleet.images:,.0f} in {parts:,} parts of {fleet.part_size:,}",
        "CPU hours": f"{cpu_s / 3600 / fleet.efficiency:,.0f}",
        "GPU hours": f"{gpu_s / 3600 / fleet.efficiency:,.0f}" if gpu_s else "none: the estimator runs on the CPU",
        "wall time": f"{duration(wall)} on {fleet.cores:,} cores" + (f" and {fleet.gpus} GPUs" if gpu_s else ""),
        "storage": f"images {_bytes(fleet.images * sample.image_bytes)}, masks "
        f"{_bytes(fleet.images * sample.mask_bytes)}; {2 * parts:,} objects of {_bytes(image_part)} and "
        f"{_bytes(mask_part)}",
        "requests, masks": _requests(writes["masks"], reads["masks"], parts / KEYS_PER_LISTING),
        "requests, ingest": _requests(writes["ingest"], reads["ingest"], fleet.images / KEYS_PER_LISTING),
        "request rate": f"{read_rate:,.1f} reads/s and {write_rate:,.2f} writes/s, "
        f"{_bytes(fleet.images * (sample.image_bytes + sample.mask_bytes) / wall)}/s; a prefix bears "
        f"{READS_PER_PREFIX:,} and {WRITES_PER_PREFIX:,}: needs {prefixes(read_rate, write_rate)}",
        "collections": f"{collections:,}, so that a driver accepts in {_bytes(DRIVER_BYTES)} of memory",
        "spot machines": f"a part takes {duration(part_s)}; an interruption costs each of its workers half of that, "
        f"{lost:.2%} of the work at {fleet.interruptions:g} an hour",
    }


def prefixes(reads: float, writes: float) -> int:
    """How many prefixes the requests of a second have to be spread over."""
    return max(1, -int(-reads // READS_PER_PREFIX), -int(-writes // WRITES_PER_PREFIX))


def duration(seconds: float) -> str:
    """Say how long in a unit that suits it."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def requests_to_write(part: float) -> int:
    """Requests that write a part of so many bytes to an object store."""
    return 1 if part <= WRITE_BLOCK else 2 - int(-part // WRITE_BLOCK)


def _requests(writes: float, reads: float, listings: float) -> str:
    return f"{writes:,.0f} PUT and POST, {reads:,.0f} GET and HEAD, {max(1, listings):,.0f} LIST"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} PB"


def _timed(work: Callable[[], list[T]]) -> tuple[list[T], float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def _size(table: pa.Table) -> int:
    """Bytes of a part: nearly all of it is JPEG and PNG, kept as they are."""
    return int(table.nbytes)
