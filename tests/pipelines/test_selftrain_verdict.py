"""The verdict on a self-training names the better model."""

import re

import pytest

from fss.training.semi_supervised.config import Stage
from pipelines.self_training.verdict import judge_stages


@pytest.mark.parametrize(
    ("scores", "stage", "words"),
    [
        ({1: 0.40, 2: 0.39, 3: 0.42}, 3, "stage 3 has mIoU 0.420 on the validation pictures, .* 0.400: \\+2.0 points"),
        ({1: 0.46, 2: 0.45, 3: 0.44}, 1, "lost 2.0 points. The model is that of stage 1. Train stage 1 longer"),
        ({1: 0.46, 2: 0.47, 3: 0.44}, 2, "lost 2.0 points. The model is that of stage 2."),
        ({}, 3, "give a --val-collection"),
    ],
)
def test_a_loss_is_told_and_the_better_model_kept(scores: dict[Stage, float], stage: Stage, words: str) -> None:
    verdict = judge_stages(scores)
    assert verdict.stage == stage and "\n" not in verdict.line
    assert re.search(words, verdict.line)
    assert (verdict.difference is None) == (not scores)
