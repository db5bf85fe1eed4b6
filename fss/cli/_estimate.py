"""Estimate the disk space and time of a job on some photographs by measuring a small sample on this machine."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fss.collection.sources.walk import is_photograph, walk
from fss.core import storage
from fss.core.rng import keyed_rng
from fss.core.system import one_thread
from fss.images.mask_codec import encode_mask, encode_soft
from fss.inference.inputs import read_picture
from fss.saliency import SaliencyEstimator
from fss.saliency.cost_estimate import duration
from fss.training.few_shot.defaults import TrainingPlan

SAMPLE = 12  # photographs
EFFICIENCY = 0.9  # speed of a core while all others are busy, as a share (tests/benchmarks/bench_pseudomask.py)
EXTRAS = 1.05  # ids, scores, reports
CHECKPOINTS = 4  # the best, the last, the one being written and the model, each with the optimiser's state


@dataclass(frozen=True, kw_only=True)
class JobEstimate:
    """The estimated needs of a job."""

    photographs: int
    """Number of files that look like photographs."""
    disk_bytes: float
    """Disk space for collection, masks and checkpoints, in bytes."""
    training_seconds: float
    """Time of the training."""
    lines: dict[str, str]
    """Descriptions of the needs by topic."""


def estimate(photographs: str, training: TrainingPlan, *, cores: int, device: str) -> JobEstimate:
    """Measure a sample and estimate ingest, pseudo-masks and training for all photographs.

    Args:
        photographs: folder or s3:// URI.
        training: the planned training.
        cores: number of processor cores that the jobs will use.
        device: device of the training, cpu or cuda.

    Raises:
        ValueError: there is no usable photograph.
    """
    uris = [uri for path, uri in walk(photographs).uris.items() if is_photograph(path)]
    if not uris:
        raise ValueError(f"there is no photograph in {photographs}")
    size, mask_size, decode_s, mask_s = _measure(uris)
    step_s, weights = _training_step(training, device)
    count = len(uris)
    masks_s = count * (decode_s + mask_s) / cores / EFFICIENCY
    stored = count * (size + mask_size) * EXTRAS
    disk = stored + CHECKPOINTS * weights
    processor = "GPU" if device == "cuda" else "CPU"
    workers = f"on {cores} core{'s' if cores > 1 else ''}"
    return JobEstimate(
        photographs=count,
        disk_bytes=disk,
        training_seconds=step_s * training.steps,
        lines={
            "photographs": f"{count:,}, {size / 1e3:,.0f} kB each in a sample of {min(count, SAMPLE)}",
            "disk needed": f"{disk / 1e9:,.2f} GB: {stored / 1e9:,.2f} for photographs and masks, "
            f"{weights / 1e9:,.2f} for each of {CHECKPOINTS} checkpoints",
            "ingest": f"{duration(count * decode_s / cores / EFFICIENCY)} {workers}, reading not counted",
            "pseudo-masks": f"{duration(masks_s)} {workers} ({1 / (decode_s + mask_s):.1f} images/s each)",
            "training": f"{duration(step_s * training.steps)} on one {processor} ({training.steps:,} steps of "
            f"{training.batch_size}, {training.backbone} at {training.image_size} px, {step_s:.2f} s a step)",
        },
    )


@one_thread()
def _measure(uris: list[str]) -> tuple[float, float, float, float]:
    """Return the mean bytes of a photograph and its mask, and the seconds to decode and to segment it on one core."""
    order = keyed_rng(0, item=len(uris), purpose="doctor").permutation(len(uris))[:SAMPLE]
    estimator = SaliencyEstimator()
    rows = list(_timings([uris[int(index)] for index in order], estimator))
    if not rows:
        raise ValueError("no photograph of the sample can be read; fss saliency reports the reasons")
    warm = rows[1:] or rows  # the first one includes compilation
    size, mask_size, decode_s, mask_s = (float(value) for value in np.mean(warm, axis=0))
    return size, mask_size, decode_s, mask_s


def _timings(uris: list[str], estimator: SaliencyEstimator) -> Iterator[tuple[float, float, float, float]]:
    for uri in uris:
        try:
            data = storage.read_bytes(uri)
            start = time.perf_counter()
            rgb = read_picture(data)
        except (OSError, ValueError):
            continue
        middle = time.perf_counter()
        result = estimator.estimate(rgb)
        mask_bytes = len(encode_mask(result.mask)) + len(encode_soft(result.soft))
        yield len(data), mask_bytes, middle - start, time.perf_counter() - middle


def _training_step(training: TrainingPlan, device: str) -> tuple[float, float]:
    """Return the seconds of a step (forward and backward) and the bytes of a checkpoint with optimiser state."""
    from fss.models import FewShotSegmenter, SegmenterConfig
    from fss.training.few_shot.cost_estimate import measure_step

    config = SegmenterConfig(
        backbone=training.backbone, frozen=True, image_size=training.image_size, width=training.width
    )
    seconds = measure_step(config, training.batch_size, device=device)
    parameters = sum(p.numel() for p in FewShotSegmenter.from_config(config).parameters())
    return seconds, 4.0 * 4 * parameters  # weights, their average, two moments of Adam
