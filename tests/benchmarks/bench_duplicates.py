"""Distances of the perceptual hashes of real photographs and their copies, and the cost of the search.

    python -m tests.benchmarks.bench_duplicates [--photographs shared/data/unlabelled] [--hashes 100000 1000000]

Random hashes have a thousand near-duplicates among them, two bits apart.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from fss.collection.near_pairs import find_originals
from fss.core.arrays import Rgb
from fss.images.decode import decode_image
from fss.images.perceptual_hash import Hashes, perceptual_hash, turned

DISTANCES = (2, 4, 6)
SAMPLE = 5  # one photograph in five is copied


def scaled(share: float) -> Callable[[Rgb], Rgb]:
    """Return a function that scales an image."""
    return lambda rgb: np.asarray(cv2.resize(rgb, None, fx=share, fy=share, interpolation=cv2.INTER_AREA), np.uint8)


def compressed(quality: int) -> Callable[[Rgb], Rgb]:
    """Return a function that compresses an image as JPEG."""

    def compress(rgb: Rgb) -> Rgb:
        data = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)

    return compress


def cropped(share: float) -> Callable[[Rgb], Rgb]:
    """Return a function that cuts a share of each side off."""

    def crop(rgb: Rgb) -> Rgb:
        rows, columns = (int(side * share) for side in rgb.shape[:2])
        return np.ascontiguousarray(rgb[rows : rgb.shape[0] - rows, columns : rgb.shape[1] - columns])

    return crop


COPIES: dict[str, Callable[[Rgb], Rgb]] = {
    "JPEG quality 50": compressed(50),
    "JPEG quality 20": compressed(20),
    "half the side": scaled(0.5),
    "a quarter of the side": scaled(0.25),
    "half, quality 50": lambda rgb: compressed(50)(scaled(0.5)(rgb)),
    "gamma 0.7": lambda rgb: (255 * (rgb / 255) ** 0.7).astype(np.uint8),
    "turned by 90 degrees": lambda rgb: np.ascontiguousarray(np.rot90(rgb)),
    "mirrored": lambda rgb: np.ascontiguousarray(rgb[:, ::-1]),
    "cut by 2 %": cropped(0.02),
    "cut by 5 %": cropped(0.05),
}


def hash_all(images: list[Rgb]) -> Hashes:
    """Return the hashes of images; 0 where there is none."""
    return np.array([perceptual_hash(image) or 0 for image in images], np.uint64)


def measure_photographs(folders: list[str]) -> None:
    """Print the distances of copies and of different photographs, in any orientation."""
    paths = sorted(path for folder in folders for path in Path(folder).rglob("*.jpg"))
    images = [decode_image(path.read_bytes()) for path in paths]
    start = time.process_time()
    hashes = hash_all(images)
    print(f"{len(images)} photographs, {1000 * (time.process_time() - start) / len(images):.2f} ms for a hash")
    print(f"{'copy':22} median  p95  max  " + "  ".join(f"<= {limit}" for limit in DISTANCES))
    for name, change in COPIES.items():
        copies = hash_all([change(image) for image in images[::SAMPLE]])
        bits = np.min([np.bitwise_count(each ^ hashes[::SAMPLE]) for each in (copies, *turned(copies))], axis=0)
        shares = "  ".join(f"{np.mean(bits <= limit):.0%}" for limit in DISTANCES)
        print(f"{name:22} {np.median(bits):6.0f} {np.percentile(bits, 95):4.0f} {bits.max():4}  {shares}")
    one, other = np.triu_indices(len(hashes), 1)
    bits = np.min([np.bitwise_count(hashes[one] ^ each[other]) for each in (hashes, *turned(hashes))], axis=0)
    counts = {limit: int((bits <= limit).sum()) for limit in range(0, 13, 2)}
    print(f"pairs of different photographs: {len(bits)}, by distance at most {counts}")


def measure_search(count: int, distance: int) -> None:
    """Print CPU seconds and memory of a search among random hashes."""
    hashes = np.random.Generator(np.random.Philox(key=0)).integers(0, 2**64, count, dtype=np.uint64)
    hashes[count // 2 : count // 2 + 1000] = hashes[:1000] ^ np.uint64(0b1000010)
    start = time.process_time()
    originals, _ = find_originals(hashes, distance=distance)
    seconds, memory = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count:9} hashes, distance {distance}: {(originals >= 0).sum()} repeat, {seconds:.1f} s, {memory:.0f} MB")


def main() -> None:
    """Measure photographs, if they are given, and the search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", nargs="*", default=[], help="folders of photographs without copies")
    parser.add_argument("--hashes", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--distance", type=int, default=4)
    options = parser.parse_args()
    if options.photographs:
        measure_photographs(options.photographs)
    for count in options.hashes:
        measure_search(count, options.distance)


if __name__ == "__main__":
    main()
