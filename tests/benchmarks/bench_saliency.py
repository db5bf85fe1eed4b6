"""Measure saliency on photographs with masks: quality, images per second of one core, and where the time goes.

    python tests/benchmarks/bench_saliency.py --data ../shared/data/ecssd
    python tests/benchmarks/bench_saliency.py --data ... --profile --limit 100
    python tests/benchmarks/bench_saliency.py --data ... --student students/<name>/student.safetensors
    python tests/benchmarks/bench_saliency.py --data ... --vit weights.pth --model vit_small_patch16_224.dino

``--data`` (or FSS_SHARED_DATA/ecssd) holds images/*.jpg and masks/*.png. At the photograph's own size: IoU of the mask,
averaged over images; max F (beta^2 = 0.3) of the soft map, precision and recall averaged over images at each of 256
thresholds; MAE of the soft map. The same for the even and the odd photographs alone: what was chosen on one half can be
judged on the other. The speed is CPU time from JPEG bytes to PNG mask bytes.
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
from fss.images.decode import decode_image
from fss.images.mask_codec import encode_mask, encode_soft
from fss.saliency import SaliencyConfig
from fss.saliency.config import StudentSettings, ViTSettings
from fss.saliency.estimators import Estimator, EstimatorSettings, create_estimator


@dataclass
class Quality:
    """Collects the three metrics, image by image."""

    precision: list[npt.NDArray[np.float64]] = field(default_factory=list)
    recall: list[npt.NDArray[np.float64]] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)

    def add(self, mask: npt.NDArray[np.bool_], soft: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> None:
        """Add one image; all [H,W]."""
        levels = np.rint(soft * 255).astype(np.int64)
        above = np.cumsum(np.bincount(levels.ravel(), minlength=256)[::-1])[::-1]
        right = np.cumsum(np.bincount(levels[truth], minlength=256)[::-1])[::-1]
        self.precision.append(np.where(above > 0, right / np.maximum(above, 1), 1.0))
        self.recall.append(right / max(1, int(truth.sum())))
        self.error.append(float(np.abs(soft - truth).mean()))
        union = int((mask | truth).sum())
        self.iou.append(int((mask & truth).sum()) / union if union else 1.0)

    def metrics(self) -> dict[str, float]:
        """IoU, max F and MAE of all images added."""
        precision, recall = np.mean(self.precision, 0), np.mean(self.recall, 0)
        measure = 1.3 * precision * recall / (0.3 * precision + recall + 1e-12)
        return {
            "IoU": float(np.mean(self.iou)),
            "max F": float(measure.max()),
            "MAE": float(np.mean(self.error)),
        }


def pairs(data: Path) -> list[tuple[Path, Path]]:
    """Photographs and masks under ``data``."""
    found = [(p, data / "masks" / f"{p.stem}.png") for p in sorted((data / "images").glob("*.jpg"))]
    if not found:
        raise SystemExit(f"no images/*.jpg under {data}; give --data, or set FSS_SHARED_DATA to the folder above ecssd")
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("FSS_SHARED_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=shared / "ecssd")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--student", help="score this student in place of the classical estimator")
    parser.add_argument("--vit", help="score a vision transformer with these weights: a file or 'pretrained'")
    parser.add_argument("--model", default=ViTSettings().model, help="timm's name of the transformer")
    parser.add_argument("--profile", action="store_true", help="time per function, by cProfile")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    estimator = create_estimator(settings_of(options))
    found = pairs(options.data)[: options.limit]
    estimator.estimate(decode_image(found[0][0].read_bytes()))  # compile before the clock starts
    collected, halves, scores, seconds = Quality(), (Quality(), Quality()), [], 0.0
    for number, (photo, truth_path) in enumerate(found):
        data = photo.read_bytes()
        start = time.process_time()
        result = estimator.estimate(decode_image(data), image_id=photo.stem)
        encode_mask(result.mask)
        encode_soft(result.soft)
        seconds += time.process_time() - start
        truth = cv2.imread(str(truth_path), cv2.IMREAD_GRAYSCALE) > 127
        for part in (collected, halves[number % 2]):
            part.add(result.mask > 0, result.soft, truth)
        scores.append(result.scores)
    for name, part in (("all", collected), ("even", halves[0]), ("odd", halves[1])):
        if part.iou:
            metrics = ", ".join(f"{figure} {value:.3f}" for figure, value in part.metrics().items())
            print(f"{name} {len(part.iou)} images: {metrics}")
    each = seconds / len(found)
    print(f"{1 / each:.1f} images/s of CPU time, JPEG to mask and soft map ({1e3 * each:.1f} ms)")
    report_scores(np.array(collected.iou), scores)
    if options.profile:
        profile(estimator, [photo.read_bytes() for photo, _ in found[:60]])


def settings_of(options: argparse.Namespace) -> EstimatorSettings:
    """The estimator that the command line asks for."""
    if options.student:
        return StudentSettings(path=options.student)
    return ViTSettings(model=options.model, weights=options.vit) if options.vit else SaliencyConfig()


def report_scores(iou: npt.NDArray[np.float64], scores: list[dict[str, float | bool]]) -> None:
    """Say what the scores know about the true IoU."""
    for name in ("agreement", "contrast", "stability", "separation", "refinement", "area", "border"):
        print(f"  spearman of {name} with IoU {spearmanr([s[name] for s in scores], iou).statistic:.3f}")
    rank = np.mean([rankdata([s[name] for s in scores]) for name in QUALITY_SCORES], axis=0)
    best = np.argsort(-rank)[: len(iou) // 2]
    passed = np.array([all(s[gate] for gate in HARD_GATES) for s in scores])
    known = spearmanr(rank, iou).statistic
    print(f"quality: spearman {known:.3f}; best half IoU {iou[best].mean():.3f}, all {iou.mean():.3f}")
    if not passed.all():
        print(f"gates: {passed.mean():.1%} pass with IoU {iou[passed].mean():.3f}, others {iou[~passed].mean():.3f}")


def profile(estimator: Estimator, images: list[bytes]) -> None:
    """Print the time per function."""
    import cProfile
    import pstats

    watch = cProfile.Profile()
    watch.enable()
    for data in images:
        result = estimator.estimate(decode_image(data))
        encode_mask(result.mask)
        encode_soft(result.soft)
    watch.disable()
    pstats.Stats(watch).sort_stats("tottime").print_stats(28)


if __name__ == "__main__":
    main()
