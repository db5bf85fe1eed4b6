"""Fuzz the decoders with damaged images and masks, and count the outcomes.

    python -m tests.benchmarks.fuzz_decode --seconds 60 --seed 0

An outcome must be an image or a reason. Any other outcome, a file that takes longer than two seconds, or a process that
grows by more than a gigabyte stops the run and prints the seed.
"""

import resource
import time
import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
import tyro

from tests.helpers.fuzzing import check_mask, check_picture, damage, mask_seeds, seeds

SLOWEST_S = 2.0
MOST_GROWTH_KB = 2**20


@dataclass(frozen=True, kw_only=True)
class FuzzConfig:
    """Duration and first seed."""

    seconds: float = 60.0
    """Duration in seconds of wall-clock time."""
    seed: int = 0
    """First seed; every file has the next one."""


def main(config: FuzzConfig) -> None:
    """Run and print the counts."""
    warnings.simplefilter("ignore")
    pictures, masks = seeds(), mask_seeds()
    counts: Counter[str] = Counter()
    slowest, before = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, seed = time.monotonic(), config.seed
    while time.monotonic() - start < config.seconds:
        rng = np.random.default_rng(seed)
        is_mask = seed % 5 == 0
        kinds, check = (masks, check_mask) if is_mask else (pictures, check_picture)
        data = damage(kinds[int(rng.integers(0, len(kinds)))], rng)
        file_start = time.perf_counter()
        try:
            outcome = check(data)
        except BaseException as error:
            raise SystemExit(f"seed {seed}: {type(error).__name__}: {error}") from error
        taken = time.perf_counter() - file_start
        if taken > SLOWEST_S:
            raise SystemExit(f"seed {seed}: {len(data)} bytes took {taken:.1f} s")
        slowest = max(slowest, taken)
        counts[f"{'mask' if is_mask else 'picture'}: {outcome}"] += 1
        seed += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if grown > MOST_GROWTH_KB:
        raise SystemExit(f"the process grew by {grown / 1024:.0f} MiB")
    print(f"{seed - config.seed:,} damaged files of {len(pictures)} images and {len(masks)} masks, all handled;")
    print(f"the slowest took {slowest * 1000:.0f} ms, the process grew by {grown / 1024:.0f} MiB")
    for name, count in sorted(counts.items()):
        print(f"  {name:<26}{count:>10,}")


if __name__ == "__main__":
    main(tyro.cli(FuzzConfig, description=__doc__))
