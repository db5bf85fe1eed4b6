"""Sections 7 and 9: speed of training and evaluation at published sizes, and how busy their input keeps the device."""

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from fss.episodes.config import OFF, AugmentConfig, SplitConfig
from fss.episodes.episode_plan import make_plan
from fss.evaluation.evaluator import evaluate
from fss.evaluation.methods import SegmenterMethod
from fss.models import FewShotSegmenter
from fss.models.config import Precision
from fss.models.precision import set_precision
from fss.saliency.vit import ViTEstimator
from fss.training.few_shot.class_stream import ClassStream
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from fss.training.few_shot.loop import TrainLoop
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.loop import StepReport
from tests.benchmarks.gpu.checks import Checks, Published, count_waits, kernel_seconds, network, seconds_of
from tests.benchmarks.gpu.data import CLASSES, RandomStream, painted, photographs

WARM_UP = 3  # steps before the measured ones
PROFILED = 2  # steps whose kernels are timed


def training_speed(checks: Checks) -> None:
    """Section 7: steps of every learner at its published size, on random episodes that are ready."""
    for published in checks.published:
        built = _network(published).to(checks.device)
        for precision in checks.precisions:
            set_precision(precision, checks.device)
            _measure_steps(checks, published, built, precision)


def _measure_steps(checks: Checks, published: Published, built: FewShotSegmenter, precision: Precision) -> None:
    stream = RandomStream(published.size, published.batch)
    config = OptimizerConfig(steps=WARM_UP + checks.steps + PROFILED, precision=precision)
    on_gpu = checks.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    reports = TrainLoop(built, stream, config, device=checks.device).run()
    measured = list(islice(reports, WARM_UP + checks.steps))[WARM_UP:]
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0
    _, kernels = kernel_seconds(checks.device, lambda: list(reports))
    step = sum(report.compute_s for report in measured) / len(measured)
    raw = next(stream.batches(0))
    on_device = raw.to(checks.device)
    rendering = seconds_of(checks.device, lambda: on_device.render(published.size))
    copying = seconds_of(checks.device, lambda: raw.to(checks.device))
    checks.row(
        learner=published.learner,
        batch=published.batch,
        precision=precision,
        **{
            "episodes/s": round(published.batch / step, 1),
            "ms/step": round(1000 * step),
            "GPU busy": _percent(kernels / PROFILED / step),
            "peak GiB": round(peak, 1),
            "render ms": round(1000 * rendering, 1),
            "copy ms": round(1000 * copying, 1),
        },
    )


def feeding(checks: Checks) -> None:
    """Section 7, second part: the same steps in the fastest precision, fed from JPEGs by the streams of a training."""
    set_precision(checks.fastest, checks.device)
    # The last entry of a learner has its largest batch.
    fed = {each.learner: each for each in checks.published if each.learner in ("hsnet", "masksplit")}
    for published in fed.values():
        built = _network(published).to(checks.device)
        for count in checks.decoders:
            with tempfile.TemporaryDirectory(prefix="fss-gpu-check-") as cache:
                stream = _stream(
                    checks,
                    published,
                    StreamConfig(batch_size=published.batch, decode_threads=count, cache_folder=Path(cache)),
                )
                steps = stream.steps_per_epoch
                config = OptimizerConfig(steps=2 * steps, precision=checks.fastest)
                reports = TrainLoop(built, stream, config, device=checks.device).run()
                cold, warm = (_pass(reports, steps, published.batch) for _ in range(2))
                kind = "processes" if stream._decoders.in_processes else "threads"
                checks.row(
                    learner=published.learner,
                    decoders=f"{count} {kind}",
                    **_named("cold", cold),
                    **_named("warm", warm),
                )


def evaluation(checks: Checks) -> None:
    """Section 9: an evaluation by plan with 1 and 5 shots, and a batch of masks by a vision transformer."""
    published = checks.published[0]
    data = photographs(checks.photographs)
    for shots in (1, 5):
        plan = make_plan(data.index, episodes=checks.episodes, shots=shots, seed=0)
        for batch in (8, 32):
            method = SegmenterMethod(_network(published), device=checks.device, precision=checks.fastest, batch=batch)
            work = partial(evaluate, [method], plan, data.reader, size=published.size, batch=batch)
            start = time.perf_counter()
            result, kernels = kernel_seconds(checks.device, work)
            seconds = time.perf_counter() - start
            checks.row(
                evaluated=f"{shots} shot(s)",
                batch=batch,
                **{
                    "episodes/s": round(len(plan) / seconds, 1),
                    "images/s": round(result.passes[method.name] / seconds, 1),
                    "GPU idle": _percent(1 - kernels / seconds),
                },
            )
    side = published.size // 16 * 16  # whole patches
    estimator = ViTEstimator(checks.vit, weights=None, image_size=side, device=str(checks.device), refined=False)
    pictures = [painted(number)[0] for number in range(16)]
    seconds = seconds_of(checks.device, lambda: estimator.estimate_batch(pictures), repeats=3)
    waits = count_waits(checks.device, lambda: estimator.estimate_batch(pictures))
    checks.row(masks=checks.vit, batch=len(pictures), waits=waits, **{"images/s": round(len(pictures) / seconds, 1)})


def _network(published: Published) -> FewShotSegmenter:
    masking = "none" if published.learner == "masksplit" else "feature"
    return network(published.learner, masking, published.backbone, published.size)


def _stream(checks: Checks, published: Published, config: StreamConfig) -> ClassStream | MaskSplitStream:
    """Return the stream of a learner's published training over the generated photographs."""
    data, pinned = photographs(checks.photographs), checks.device.type == "cuda"
    if published.learner == "masksplit":
        return MaskSplitStream(
            data.collection,
            data.masks,
            image_size=published.size,
            stream=config,
            split=SplitConfig(),
            augment=AugmentConfig(),
            pin_memory=pinned,
        )
    return ClassStream(
        data.reader,
        data.index,
        classes=range(1, CLASSES + 1),
        episodes=checks.photographs,
        shots=1,
        image_size=published.size,
        stream=config,
        augment=OFF,
        pin_memory=pinned,
    )


def _pass(reports: Iterator[StepReport], steps: int, batch: int) -> tuple[float, float]:
    """Return the episodes a second and the share of waiting of some steps."""
    start = time.perf_counter()
    waited = sum(report.wait_s for report in islice(reports, steps))
    seconds = time.perf_counter() - start
    return steps * batch / seconds, waited / seconds


def _named(name: str, measured: tuple[float, float]) -> dict[str, object]:
    rate, waiting = measured
    return {f"{name} episodes/s": round(rate, 1), f"{name} waiting": _percent(waiting)}


def _percent(share: float) -> str:
    return "unknown" if share != share else f"{100 * share:.0f} %"
