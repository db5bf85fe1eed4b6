"""Benchmark of masks from prompts: IoU of the mask that a box, a point or strokes give with the mask of the object.

    python -m tests.benchmarks.bench_prompts --collection fewshot --pictures 100

Objects are the connected parts of each class in a picture, at most four of a class and of at least 0.2 % of the
picture. A tight box touches the object, a loose box is 10 % longer on each axis. A point lies well inside the object,
and strokes are the longest piece of its skeleton. ``box`` fills the box, ``GrabCut`` is OpenCV's, initialised by the
box in a crop with half a box around it, ``saliency`` is the salient object of that crop within the box.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from skimage.morphology import skeletonize

from fss.collection import Collection, ImageReader
from fss.core.arrays import IGNORE, BoolArray, UInt8
from fss.images.resize import shrink_to_area
from fss.saliency import SaliencyEstimator
from fss.saliency.classical.prompted import LEAST_SHARE, Corners, object_at, object_in_box, object_under

LEAST, MOST = 0.002, 4
GRABCUT_PIXELS = 40_000


def filled(rgb: UInt8, box: Corners) -> UInt8:
    """Fill the box."""
    mask = np.zeros(rgb.shape[:2], np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return mask


def crop_of(rgb: UInt8, box: Corners) -> Corners:
    """Return the box with half its sides around it, within the picture."""
    x, y = (box[2] - box[0]) // 2, (box[3] - box[1]) // 2
    return max(0, box[0] - x), max(0, box[1] - y), min(rgb.shape[1], box[2] + x), min(rgb.shape[0], box[3] + y)


def grab_cut(rgb: UInt8, box: Corners) -> UInt8:
    """Segment with OpenCV's GrabCut, five iterations."""
    left, top, right, bottom = crop_of(rgb, box)
    small = shrink_to_area(rgb[top:bottom, left:right], GRABCUT_PIXELS)
    labels = filled(rgb, box)[top:bottom, left:right]
    labels = np.where(cv2.resize(labels, small.shape[1::-1]) > 0, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    if not (labels == cv2.GC_BGD).any():
        return filled(rgb, box)
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, labels, (0, 0, 1, 1), *models, 5, cv2.GC_INIT_WITH_MASK)
    return _paste(rgb, (left, top, right, bottom), labels == cv2.GC_PR_FGD) & filled(rgb, box)


def saliency(rgb: UInt8, box: Corners) -> UInt8:
    """Take the salient object of the crop."""
    left, top, right, bottom = crop_of(rgb, box)
    mask = SaliencyEstimator().estimate(np.ascontiguousarray(rgb[top:bottom, left:right])).mask
    return _paste(rgb, (left, top, right, bottom), mask) & filled(rgb, box)


BOXES: dict[str, Callable[[UInt8, Corners], UInt8]] = {
    "box": filled,
    "GrabCut": grab_cut,
    "saliency": saliency,
    "ours": object_in_box,
}


def objects(collection: str, mask_set: str, pictures: int, seed: int) -> Iterator[tuple[UInt8, UInt8, BoolArray]]:
    """Yield pictures, masks of one object and ignored pixels."""
    opened = Collection.open(collection)
    masks = opened.mask_set(mask_set)
    reader = ImageReader(opened, masks)
    ids = [i for part in opened.part_names() for i in opened.read_part(part, ["image_id"])["image_id"].to_pylist()]
    for image_id in np.random.default_rng(seed).permutation(ids)[:pictures]:
        sample = reader.read(str(image_id))
        for value in range(1, len(sample.classes) + 1):
            _, labels, stats, _ = cv2.connectedComponentsWithStats(np.asarray(sample.mask == value, np.uint8))
            sizes = stats[1:, cv2.CC_STAT_AREA]
            for number in np.argsort(-sizes)[:MOST]:
                if sizes[number] >= LEAST * labels.size:
                    mask = np.asarray(labels == number + 1, np.uint8)
                    yield sample.rgb, mask, np.asarray(sample.mask == IGNORE, bool)


def box_around(mask: UInt8, looser: float) -> Corners:
    """Return the box around a mask, longer on each axis by a share of its sides."""
    left, top, width, height = cv2.boundingRect(mask)
    x, y = round(looser / 2 * width), round(looser / 2 * height)
    return (
        max(0, left - x),
        max(0, top - y),
        min(mask.shape[1], left + width + x),
        min(mask.shape[0], top + height + y),
    )


def point_in(mask: UInt8, rng: np.random.Generator) -> BoolArray:
    """Return one pixel well inside the object."""
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    inside = np.argwhere(depth >= 0.6 * depth.max())
    point = np.zeros(mask.shape, bool)
    point[tuple(inside[rng.integers(len(inside))])] = True
    return point


def strokes_in(mask: UInt8) -> BoolArray:
    """Return the longest piece of the skeleton, three pixels wide."""
    skeleton = _thin(np.asarray(cv2.erode(mask, np.ones((5, 5), np.uint8)), np.uint8))
    if not skeleton.any():
        skeleton = _thin(mask)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(skeleton, connectivity=8)
    longest = (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    return np.asarray(cv2.dilate(longest, np.ones((3, 3), np.uint8)), np.uint8) & mask > 0


def _thin(mask: UInt8) -> UInt8:
    return np.asarray(skeletonize(mask > 0), np.uint8)  # type: ignore[no-untyped-call]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", required=True)
    parser.add_argument("--mask-set", default="truth")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(options.seed)
    ious: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    count = 0
    for rgb, mask, ignored in objects(options.collection, options.mask_set, options.pictures, options.seed):
        count += 1
        nothing = np.zeros(mask.shape, bool)
        calls = {
            f"{name}, {kind} box": (method, (rgb, box_around(mask, looser)))
            for kind, looser in (("tight", 0.0), ("loose", 0.1))
            for name, method in BOXES.items()
        }
        calls |= {"ours, point": (object_at, (rgb, point_in(mask, rng), nothing))}  # type: ignore[dict-item]
        calls |= {"ours, strokes": (object_under, (rgb, strokes_in(mask), nothing))}  # type: ignore[dict-item]
        for name, (method, arguments) in calls.items():
            start = time.process_time()
            made = method(*arguments)
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - start
            if name.endswith("box"):
                box = filled(*arguments)
                made = made if made.sum() >= LEAST_SHARE * box.sum() else box
            both, either = ((made & mask) > 0) & ~ignored, ((made | mask) > 0) & ~ignored
            ious.setdefault(name, []).append(float(both.sum() / either.sum()))
    print(f"{count} objects in {options.pictures} pictures")
    for name, values in ious.items():
        error = 2 * np.std(values) / count**0.5
        print(f"{name:22} IoU {100 * np.mean(values):.1f} +- {100 * error:.1f}, {1000 * seconds[name] / count:.0f} ms")


def _paste(rgb: UInt8, crop: Corners, mask: BoolArray | UInt8) -> UInt8:
    left, top, right, bottom = crop
    pasted = np.zeros(rgb.shape[:2], np.uint8)
    pasted[top:bottom, left:right] = cv2.resize(mask.astype(np.float32), (right - left, bottom - top)) > 0.5
    return pasted


if __name__ == "__main__":
    main()
