"""Compare the superpixels of ``fss.saliency.classical.superpixels`` with ``skimage.segmentation.slic``.

    python -m tests.benchmarks.bench_slic --data ../shared/data/ecssd
    python -m tests.benchmarks.bench_slic --data ... --limit 50 --segments 300

``--data`` holds images/*.jpg and masks/*.png. Both cut the same CIELAB pictures at the estimator's working size, with
equal segments, passes and compactness; the two take turns within each picture. Reported are the CPU time of all threads
per picture (median) and its ratio, the number of superpixels, the share of pixels that a mask of whole superpixels can
get right, and the quality of the classical estimator on either: IoU, max F and MAE as in bench_saliency.py.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import numpy.typing as npt
from skimage.segmentation import slic

from fss.core.arrays import Float32
from fss.images.decode import decode_image
from fss.images.resize import shrink_to_area
from fss.saliency import SaliencyConfig, SaliencyEstimator
from fss.saliency.classical import cues
from fss.saliency.classical.superpixels import Superpixels, measure, segment, to_lab
from tests.benchmarks.bench_saliency import Quality, pairs, read_truth

Segmenter = Callable[..., Superpixels]


def skimage_segment(lab: Float32, *, segments: int, iterations: int, compactness: float) -> Superpixels:
    """Cut with scikit-image, which first scales the picture to 0..1, so that the compactness is scaled too."""
    labels = slic(
        lab,
        n_segments=segments,
        max_num_iter=iterations,
        compactness=compactness / float(lab.max() - lab.min()),
        convert2lab=False,
        min_size_factor=0.25,
        start_label=0,
    )
    return measure(lab, labels.astype(np.int32), int(labels.max()) + 1)


SEGMENTERS: dict[str, Segmenter] = {"own": segment, "scikit-image": skimage_segment}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("FSS_SHARED_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=shared / "ecssd")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=3, help="timings per picture")
    parser.add_argument("--segments", type=int, default=SaliencyConfig().segments)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    config = SaliencyConfig(segments=options.segments)
    files = pairs(options.data)[: options.limit]
    compare(files, config, options.rounds)


def compare(files: list[tuple[Path, Path]], config: SaliencyConfig, rounds: int) -> None:
    """Time both, score the estimator on either, and print."""
    estimator = SaliencyEstimator(config)
    settings = {
        "segments": config.segments,
        "iterations": config.slic_iterations,
        "compactness": config.compactness,
    }
    seconds: dict[str, list[float]] = {name: [] for name in SEGMENTERS}
    counts: dict[str, list[int]] = {name: [] for name in SEGMENTERS}
    best: dict[str, list[float]] = {name: [] for name in SEGMENTERS}
    quality = {name: Quality() for name in SEGMENTERS}
    estimator.estimate(decode_image(files[0][0].read_bytes()))  # compile before the clock starts
    for photo, truth_path in files:
        rgb = decode_image(photo.read_bytes())
        truth = read_truth(truth_path)
        lab = to_lab(shrink_to_area(rgb, config.working_pixels))
        small = cv2.resize(truth.astype(np.uint8), lab.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
        for _ in range(rounds):
            for name, cut in SEGMENTERS.items():
                start = time.process_time()
                pixels = cut(lab, **settings)
                seconds[name].append(time.process_time() - start)
        for name, cut in SEGMENTERS.items():
            pixels = cut(lab, **settings)
            counts[name].append(pixels.count)
            best[name].append(achievable(pixels, small))
            with mock.patch.object(cues, "segment", cut):
                result = estimator.estimate(rgb, image_id=photo.stem)
            quality[name].add(result.mask > 0, result.soft, truth)
    for name in SEGMENTERS:
        metrics = ", ".join(f"{metric} {value:.4f}" for metric, value in quality[name].metrics().items())
        print(
            f"{name}: {1e3 * np.median(seconds[name]):.2f} ms, {np.mean(counts[name]):.0f} superpixels, "
            f"{100 * np.mean(best[name]):.2f} % of pixels right at best; estimator: {metrics}"
        )
    ratio = np.median(np.array(seconds["scikit-image"]) / np.array(seconds["own"]))
    error = difference(quality["own"].iou, quality["scikit-image"].iou)
    print(
        f"scikit-image takes {ratio:.2f} times as long (median over {len(files)} pictures x {rounds} rounds); {error}"
    )


def achievable(pixels: Superpixels, truth: npt.NDArray[np.bool_]) -> float:
    """Share of pixels that are right where every superpixel takes the side of its majority."""
    area = np.bincount(pixels.labels.ravel(), minlength=pixels.count)
    inside = np.bincount(pixels.labels.ravel(), truth.ravel(), pixels.count)
    return float(np.maximum(inside, area - inside).sum() / truth.size)


def difference(own: list[float], other: list[float]) -> str:
    """The mean difference of paired IoUs with its standard error."""
    paired = np.array(own) - np.array(other)
    return f"IoU own - scikit-image {paired.mean():+.4f} (standard error {paired.std(ddof=1) / len(paired) ** 0.5:.4f})"


if __name__ == "__main__":
    main()
