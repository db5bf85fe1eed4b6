"""Benchmark of the saliency estimators on photographs with masks: quality, speed of one core, and a profile.

    python -m tests.benchmarks.bench_saliency --data ../shared/data/ecssd
    python -m tests.benchmarks.bench_saliency --data ... --profile --limit 100
    python -m tests.benchmarks.bench_saliency --data ... --student students/<name>/student.safetensors
    python -m tests.benchmarks.bench_saliency --data ... --vit weights.pth --model vit_small_patch16_224.dino

``--data`` (or FSS_SHARED_DATA/ecssd) holds images/*.jpg and masks/*.png. Metrics at the original size of a photograph
are the mean IoU of the mask over images; max F (beta^2 = 0.3) of the soft map, with precision and recall averaged over
images at each of 256 thresholds; and MAE of the soft map. They are also printed for the even and the odd photographs,
so that settings chosen on one half can be evaluated on the other. The speed is CPU time from JPEG bytes to PNG bytes.
"""

import argparse
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, spearmanr

from fss.collection.schema import HARD_GATES, QUALITY_SCORES
from fss.core.arrays import BoolArray
from fss.images.decode import decode_image
from fss.images.mask_codec import encode_mask, encode_soft
from fss.saliency import SaliencyConfig
from fss.saliency.config import StudentSettings, ViTSettings
from fss.saliency.estimators import Estimator, EstimatorSettings, create_estimator


@dataclass
class Quality:
    """Accumulates the three metrics over images."""

    precision: list[npt.NDArray[np.float64]] = field(default_factory=list)
    recall: list[npt.NDArray[np.float64]] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)

    def add(self, mask: BoolArray, soft: npt.NDArray[np.float32], truth: BoolArray) -> None:
        """Add the mask, soft map and truth of one image, [H,W] each."""
        levels = np.rint(soft * 255).astype(np.int64)
        above = np.cumsum(np.bincount(levels.ravel(), minlength=256)[::-1])[::-1]
        right = np.cumsum(np.bincount(levels[truth], minlength=256)[::-1])[::-1]
        self.precision.append(np.where(above > 0, right / np.maximum(above, 1), 1.0))
        self.recall.append(right / max(1, int(truth.sum())))
        self.error.append(float(np.abs(soft - truth).mean()))
        union = int((mask | truth).sum())
        self.iou.append(int((mask & truth).sum()) / union if union else 1.0)

    def metrics(self) -> dict[str, float]:
        """Return the IoU, max F and MAE over all images."""
        precision, recall = np.mean(self.precision, 0), np.mean(self.recall, 0)
        measure = 1.3 * precision * recall / (0.3 * precision + recall + 1e-12)
        return {
            "IoU": float(np.mean(self.iou)),
            "max F": float(measure.max()),
            "MAE": float(np.mean(self.error)),
        }


def pairs(data: Path) -> list[tuple[Path, Path]]:
    """Return the paths of the photographs under ``data`` with those of their masks."""
    paths = [(p, data / "masks" / f"{p.stem}.png") for p in sorted((data / "images").glob("*.jpg"))]
    if not paths:
        raise SystemExit(f"no images/*.jpg under {data}; give --data, or set FSS_SHARED_DATA to the folder above ecssd")
    return paths


def read_truth(path: Path) -> BoolArray:
    """Return where a mask file is brighter than the middle, bool [H,W]."""
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise SystemExit(f"{path} is no mask that OpenCV reads; every photograph needs one as PNG")
    return np.asarray(grey > 127, bool)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("FSS_SHARED_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=shared / "ecssd")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--student", help="evaluate this student instead of the classical estimator")
    parser.add_argument("--vit", help="evaluate a vision transformer with these weights: a file or 'pretrained'")
    parser.add_argument("--model", default=ViTSettings().model, help="timm name of the transformer")
    parser.add_argument("--profile", action="store_true", help="print the time per function (cProfile)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    estimator = create_estimator(settings_of(options))
    paths = pairs(options.data)[: options.limit]
    estimator.estimate(decode_image(paths[0][0].read_bytes()))  # warm up: compile
    total, halves, scores, seconds = Quality(), (Quality(), Quality()), [], 0.0
    for number, (photo, truth_path) in enumerate(paths):
        data = photo.read_bytes()
        start = time.process_time()
        result = estimator.estimate(decode_image(data), image_id=photo.stem)
        encode_mask(result.mask)
        encode_soft(result.soft)
        seconds += time.process_time() - start
        truth = read_truth(truth_path)
        for part in (total, halves[number % 2]):
            part.add(result.mask > 0, result.soft, truth)
        scores.append(result.scores)
    for name, part in (("all", total), ("even", halves[0]), ("odd", halves[1])):
        if part.iou:
            metrics = ", ".join(f"{metric} {value:.3f}" for metric, value in part.metrics().items())
            print(f"{name} {len(part.iou)} images: {metrics}")
    each = seconds / len(paths)
    print(f"{1 / each:.1f} images/s of CPU time, JPEG to mask and soft map ({1e3 * each:.1f} ms)")
    report_scores(np.array(total.iou), scores)
    if options.profile:
        profile(estimator, [photo.read_bytes() for photo, _ in paths[:60]])


def settings_of(options: argparse.Namespace) -> EstimatorSettings:
    """Return the settings of the estimator that the command line selects."""
    if options.student:
        return StudentSettings(path=options.student)
    return ViTSettings(model=options.model, weights=options.vit) if options.vit else SaliencyConfig()


def report_scores(iou: npt.NDArray[np.float64], scores: list[dict[str, float | bool]]) -> None:
    """Print how the scores correlate with the true IoU."""
    for name in ("agreement", "contrast", "stability", "separation", "refinement", "area", "border"):
        print(f"  spearman of {name} with IoU {spearmanr([s[name] for s in scores], iou).statistic:.3f}")
    rank = np.mean([rankdata([s[name] for s in scores]) for name in QUALITY_SCORES], axis=0)
    best = np.argsort(-rank)[: len(iou) // 2]
    passed = np.array([all(s[gate] for gate in HARD_GATES) for s in scores])
    correlation = spearmanr(rank, iou).statistic
    print(f"quality: spearman {correlation:.3f}; best half IoU {iou[best].mean():.3f}, all {iou.mean():.3f}")
    if not passed.all():
        print(f"gates: {passed.mean():.1%} pass with IoU {iou[passed].mean():.3f}, others {iou[~passed].mean():.3f}")


def profile(estimator: Estimator, images: list[bytes]) -> None:
    """Print the time per function for some images."""
    import cProfile
    import pstats

    profiler = cProfile.Profile()
    profiler.enable()
    for data in images:
        result = estimator.estimate(decode_image(data))
        encode_mask(result.mask)
        encode_soft(result.soft)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(28)


if __name__ == "__main__":
    main()
