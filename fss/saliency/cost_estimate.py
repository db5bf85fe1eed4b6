"""Cost estimate of pseudo-masks for a collection of any size: hours, bytes, requests and rates.

A sample of the collection is measured on one thread of this machine; the rest is arithmetic.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import pyarrow as pa

from fss.collection import Collection
from fss.collection.part_pipeline import IMAGE_COLUMNS, decode_row
from fss.collection.schema import image_table, make_image_id, mask_table
from fss.core.rng import keyed_rng
from fss.core.system import one_thread
from fss.images.decode import decode_image
from fss.images.limits import DecodeLimits
from fss.images.perceptual_hash import perceptual_hash
from fss.models.config import Precision
from fss.saliency.config import Fleet
from fss.saliency.estimators import EstimatorSettings, create_estimator
from fss.saliency.fleet_limits import (
    DRIVER_BYTES,
    HASH_WRITES_PER_PART,
    INGEST_READS_PER_IMAGE,
    INGEST_READS_PER_PART,
    KEYS_PER_LISTING,
    READS_PER_PART,
    CostSample,
    busy_share,
    count_collections,
    driver_seconds,
    ingest_limits,
    mask_limits,
    requests_to_write,
)
from fss.saliency.pseudomask import encode_mask_row, estimate_all

T = TypeVar("T")


@one_thread()
def measure_sample(
    collection: Collection,
    settings: EstimatorSettings,
    *,
    images: int,
    seed: int,
    device: str,
    precision: Precision = "fp32",
) -> CostSample:
    """Estimate the masks of a random sample of a collection without writing them, and measure the cost.

    Args:
        collection: a collection with at least one usable image.
        settings: settings of the estimator.
        images: size of the sample; it comes from up to ``images / 8`` parts.
        seed: seed of the draw of the parts.
        device: where a network runs.
        precision: precision of its arithmetic.

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
        raise ValueError(f"the sample of {collection.uri} holds no usable image; fss inspect lists the reasons")
    pictures, decode_s = _timed(lambda: [decode_row(row, collection.limits) for row in rows])
    good = [picture for picture in pictures if picture.rgb is not None]
    estimator = create_estimator(settings, device=device, precision=precision)
    estimate_all(estimator, good[:2])  # warm up: compiling and loading happen once per process
    start = time.perf_counter()
    results, estimate_s = _timed(lambda: estimate_all(estimator, good))
    wall = time.perf_counter() - start
    mask_rows, encode_s = _timed(lambda: [encode_mask_row(*pair) for pair in zip(good, results, strict=True)])
    stored = [row for row, picture in zip(rows, pictures, strict=True) if row["image"] and picture.rgb is not None]
    _, ingest_s = _timed(lambda: [_ingest(row, collection.limits) for row in stored])
    count = len(good)
    return CostSample(
        images=count,
        image_bytes=_size(image_table({**row, "image": row["image"] or b""} for row in rows)) / len(rows),
        mask_bytes=_size(mask_table(mask_rows)) / count,
        cpu_s={"decode": decode_s / count, "estimate": estimate_s / count, "encode": encode_s / count},
        gpu_s=0.0 if device == "cpu" else wall / count,
        ingest_s=ingest_s / max(1, len(stored)),
    )


def estimate_cost(sample: CostSample, fleet: Fleet) -> dict[str, Any]:
    """Return the cost of pseudo-masks for the images of a fleet, as text by quantity.

    Raises:
        ValueError: the sample was measured on a GPU and the fleet has none.
    """
    parts = -(-int(fleet.images) // fleet.part_size)
    image_s = sum(sample.cpu_s.values())
    cpu_s, gpu_s = fleet.images * image_s, fleet.images * sample.gpu_s
    limits, ingest = mask_limits(sample, fleet), ingest_limits(sample, fleet)
    masks_s, driver_s = fleet.images / min(limits.values()), driver_seconds(fleet)
    part_s = max(cpu_s / parts, gpu_s / parts) / fleet.efficiency
    lost = fleet.interruptions * part_s / 3600 / 2
    masks_s *= 1 + lost
    image_part, mask_part = (fleet.part_size * size for size in (sample.image_bytes, sample.mask_bytes))
    writes = {
        "masks": requests_to_write(mask_part) * parts,
        "ingest": (HASH_WRITES_PER_PART + requests_to_write(image_part)) * parts,
    }
    reads = {
        "masks": READS_PER_PART * parts,
        "ingest": INGEST_READS_PER_PART * parts + INGEST_READS_PER_IMAGE * int(fleet.images),
    }
    return {
        "measured": f"{sample.images} images, {1 / image_s:.1f} images/s on one core ("
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
        "collections": f"{count_collections(fleet):,}, one after the other, so that a driver lists and accepts in "
        f"{_bytes(DRIVER_BYTES)} of memory; their parts keep the cores busy for {busy_share(fleet):.0%} of the time",
        "spot machines": f"a part takes {duration(part_s)}; an interruption costs each of its workers half of that, "
        f"{lost:.2%} of the work at {fleet.interruptions:g} an hour",
    }


def duration(seconds: float) -> str:
    """Format a duration in a suitable unit."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def _limits(limits: dict[str, float]) -> str:
    """Return the limits as text, the lowest first."""
    first, *others = sorted(limits.items(), key=lambda limit: limit[1])
    most = ", ".join(f"{name} {rate:,.0f}" for name, rate in others)
    return f"{first[1]:,.0f} images/s, by {first[0]}; the others would allow more: {most}"


def _requests(writes: float, reads: float, listings: float) -> str:
    return f"{writes:,.0f} PUT and POST, {reads:,.0f} GET and HEAD, {max(1, listings):,.0f} LIST"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} PB"


def _ingest(row: dict[str, Any], limits: DecodeLimits) -> tuple[str, int | None]:
    """Return what an ingest computes from the bytes of an image: its id and its perceptual hash."""
    return make_image_id(row["image"], row["uri"]), perceptual_hash(decode_image(row["image"], limits))


def _timed(work: Callable[[], list[T]]) -> tuple[list[T], float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def _size(table: pa.Table) -> int:
    """Return the bytes of a table, which approximate its file because JPEG and PNG do not compress further."""
    return int(table.nbytes)
