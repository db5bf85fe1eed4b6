"""Damage files, requests and names in many ways, use them, and count what survives.

    python -m tests.benchmarks.mutations --count 100 --seed 0

Bits flip, files are cut, emptied, exchanged, renamed, deleted or replaced by links, pipes and folders, values of JSON
get other kinds, rows are doubled. A mutation is survived if one line says what is wrong, or if the result is that of
the whole files. Another result without a word is silent; an error without a line of its own, or no end, is a crash.
Damage of a collection must also be told by ``fss inspect --verify``, whether it changes a result or not.
"""

import tempfile
import time
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from tests.helpers.mutation_kinds import KINDS
from tests.helpers.mutations import HARMLESS, NOTICED, SURVIVED


@dataclass(frozen=True, kw_only=True)
class MutationsConfig:
    """Number of mutations and first seed."""

    count: int = 100
    """Mutations of each kind."""
    seed: int = 0
    """Seed of the draws."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Kinds to mutate."""
    verbose: bool = False
    """Print every mutation with its verdict."""


def main(config: MutationsConfig) -> None:
    """Run, print every failure and the table; exit with 1 if there is a failure."""
    warnings.simplefilter("ignore")
    lines, failures = [], 0
    for name in config.kinds:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
            trial = KINDS[name](Path(folder))
            for number in range(config.count):
                done, verdicts = trial(np.random.default_rng([config.seed, number]), number)
                for column, verdict in verdicts.items():
                    counts[column][verdict.outcome] += 1
                    failed = verdict.outcome not in SURVIVED
                    failures += failed
                    if failed or config.verbose:
                        print(f"{name} {number}, {column}: {done}: {verdict.outcome}: {verdict.text}", flush=True)
        for column, outcomes in counts.items():
            survived = sum(outcomes[each] for each in SURVIVED)
            detail = f"{outcomes[NOTICED]} noticed, {outcomes[HARMLESS]} without effect"
            seconds = time.monotonic() - start
            lines.append(f"| {name} | {column} | {config.count} | {survived} | {detail} | {seconds:.0f} s |")
    print("\n| kind | judged by | tried | survived | of which | time |\n|---|---|---|---|---|---|")
    print("\n".join(lines))
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main(tyro.cli(MutationsConfig, description=__doc__))
