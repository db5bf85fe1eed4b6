"""Measure the search for neighbours: time to build a bank, time and recall of a search, memory.

    python tests/benchmarks/bench_neighbours.py --bank 20000
    python tests/benchmarks/bench_neighbours.py --bank 1000000 --queries 6400

Features are made up: points around 1,000 centres, as alike pictures lie. Queries are searched in parts of 64 pictures,
as the relabelling job does; recall is the share of the exact neighbours that is found.
"""

import argparse
import resource
import time

import faiss
import numpy as np

from fss.relabel.neighbours import FLAT_LIMIT, Neighbours

PART = 64
COUNT = 6  # neighbours of a picture: two support sets of three
CENTRES = 1000
SPREAD = 0.7


def features(count: int, dims: int, seed: int) -> np.ndarray:
    """Points of length 1 around the centres, float32 [count, dims]."""
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
    stored, asked = features(options.bank, options.dims, 1), features(options.queries, options.dims, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    bank = Neighbours([f"{row:016x}-0" for row in range(options.bank)], stored)
    built = time.perf_counter() - start
    names = [f"q{row:015x}-0" for row in range(options.queries)]
    start = time.perf_counter()
    found = []
    for first in range(0, options.queries, PART):
        rows = slice(first, first + PART)
        found += bank.search(names[rows], asked[rows], COUNT)
    searched = time.perf_counter() - start
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    checked = min(200, options.queries)
    exact = Neighbours(bank.image_ids, stored, flat_limit=options.bank).search(names[:checked], asked[:checked], COUNT)
    shared = [len({n.image_id for n in a} & {n.image_id for n in b}) for a, b in zip(found, exact, strict=False)]
    kind = "exact" if options.bank <= FLAT_LIMIT else "inverted lists"
    print(f"bank of {options.bank:,} pictures, {options.dims} numbers each, {kind}, {options.threads} threads")
    print(f"built in {built:.1f} s, peak memory above the features {more:,.0f} MiB")
    print(f"{searched / options.queries * 1e3:.3f} ms a picture, {options.queries / searched:,.0f} pictures/s")
    print(f"recall {np.mean(shared) / COUNT:.3f} on {checked} pictures")


if __name__ == "__main__":
    main()
