"""Damaged annotation files in COCO's form: a mask or a reason for every photograph, or one line that refuses the file.

``tests/benchmarks/fuzz_coco.py`` runs thousands of them.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.coco_fuzzing import check, mutate, seeds, write_photographs

pytest.importorskip("pycocotools", reason="pycocotools is not installed")


def test_any_damaged_annotation_file_is_read_or_refused(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    documents = seeds()
    outcomes: Counter[str] = Counter()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        data = mutate(documents[int(rng.integers(0, len(documents)))], rng)
        try:
            outcomes[check(tmp_path, data, whole=seed % 50 == 0)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {data!r}") from error
    assert outcomes["refused"] < 120 < outcomes["2 masks"] + outcomes["3 masks"]
