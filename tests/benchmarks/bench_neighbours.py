"""Time, recall and memory of the neighbour search.

    python tests/benchmarks/bench_neighbours.py --bank 20000
    python tests/benchmarks/bench_neighbours.py --bank 1000000 --queries 6400

Features are synthetic: points around 1,000 centres, which stand for groups of similar images. Queries are searched in
parts of 64 images, as in the relabelling job. Recall is the share of the exact neighbours that the search returns.
"""

import argparse
import resource
import time

import faiss
import numpy as np

from fss.relabel.neighbours import FLAT_LIMIT, Neighbours

PART = 64
COUNT = 6  # neighbours per image: two support sets of three
CENTRES = 1000
SPREAD = 0.7


def features(count: int, dims: int, seed: int) -> np.ndarray:
    """Return unit vectors around the centres, float32 [count, dims]."""
    centres = np.random.default_rng(0).standard_normal((CENTRES, dims), np.float32)
    random = np.random.default_rng(seed)
    points = random.standard_normal((count, dims), np.float32)
    points *= SPREAD
    points += centres[random.integers(CENTRES, size=count)]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=6400)
    parser.add_argument("--dims", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    faiss.omp_set_num_threads(options.threads)
    stored, queries = features(options.bank, options.dims, 1), features(options.queries, options.dims, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    bank = Neighbours([f"{row:016x}-0" for row in range(options.bank)], stored)
    build_s = time.perf_counter() - start
    names = [f"q{row:015x}-0" for row in range(options.queries)]
    start = time.perf_counter()
    neighbours = []
    for first in range(0, options.queries, PART):
        rows = slice(first, first + PART)
        neighbours += bank.search(names[rows], queries[rows], COUNT)
    search_s = time.perf_counter() - start
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    checked = min(200, options.queries)
    exact = Neighbours(bank.image_ids, stored, flat_limit=options.bank).search(
        names[:checked], queries[:checked], COUNT
    )
    shared = [len({n.image_id for n in a} & {n.image_id for n in b}) for a, b in zip(neighbours, exact, strict=False)]
    kind = "exact" if options.bank <= FLAT_LIMIT else "inverted lists"
    print(f"bank of {options.bank:,} images, {options.dims} dimensions, {kind}, {options.threads} threads")
    print(f"built in {build_s:.1f} s, peak memory above the features {more:,.0f} MiB")
    print(f"{search_s / options.queries * 1e3:.3f} ms per image, {options.queries / search_s:,.0f} images/s")
    print(f"recall {np.mean(shared) / COUNT:.3f} on {checked} images")


if __name__ == "__main__":
    main()
