"""Fuzz the reader of COCO's form with damaged annotation files, and count the outcomes.

    python -m tests.benchmarks.fuzz_coco --count 10000 --seed 0

Every file must be refused in one line, or give each photograph a mask or a reason. Any other outcome, a file that takes
longer than two seconds, or a process that grows by more than a gigabyte stops the run and prints the seed. Every tenth
file is ingested into a collection as well.
"""

import resource
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from tests.helpers.coco_fuzzing import check, mutate, seeds, write_photographs

SLOWEST_S = 2.0
MOST_GROWTH_KB = 2**20


@dataclass(frozen=True, kw_only=True)
class FuzzConfig:
    """Number of files and first seed."""

    count: int = 10_000
    """Number of files."""
    seed: int = 0
    """First seed; every file has the next one."""


def main(config: FuzzConfig) -> None:
    """Run and print the counts."""
    documents = seeds()
    counts: Counter[str] = Counter()
    slowest, before, start = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder))
        for seed in range(config.seed, config.seed + config.count):
            rng = np.random.default_rng(seed)
            data = mutate(documents[int(rng.integers(0, len(documents)))], rng)
            file_start = time.perf_counter()
            try:
                counts[check(Path(folder), data, whole=seed % 10 == 0)] += 1
            except BaseException as error:
                raise SystemExit(f"seed {seed}: {type(error).__name__}: {error}\n{data!r}") from error
            taken = time.perf_counter() - file_start
            if taken > SLOWEST_S:
                raise SystemExit(f"seed {seed}: {len(data)} bytes took {taken:.1f} s")
            slowest = max(slowest, taken)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if grown > MOST_GROWTH_KB:
        raise SystemExit(f"the process grew by {grown / 1024:.0f} MiB")
    print(f"{config.count:,} damaged annotation files in {time.monotonic() - start:.0f} s, all handled;")
    print(f"the slowest took {slowest * 1000:.0f} ms, the process grew by {grown / 1024:.0f} MiB")
    for name, count in sorted(counts.items()):
        print(f"  {name:<26}{count:>10,}")


if __name__ == "__main__":
    main(tyro.cli(FuzzConfig, description=__doc__))
