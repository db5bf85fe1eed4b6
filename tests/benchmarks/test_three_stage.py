"""The arms of the benchmark of self-training are valid settings, and its report compares pairs."""

import json
from pathlib import Path

from fss.core.config import override
from fss.models.semantic.config import SemanticConfig
from fss.training.semi_supervised.config import SemanticStreamConfig
from pipelines.self_training.config import SelfTrainConfig
from tests.benchmarks.three_stage_arms import GROUPS, all_arms, equal_compute
from tests.benchmarks.three_stage_report import write_report

FROZEN = SelfTrainConfig(network=SemanticConfig(frozen_stages=3), stream=SemanticStreamConfig(cache_features=6))


def test_arms_are_settings_and_follow_the_arm_that_they_need() -> None:
    arms = all_arms(4, 8)
    names = [arm.name for arm in arms]
    assert len(set(names)) == len(names) and {arm.group for arm in arms} == set(GROUPS)
    for number, arm in enumerate(arms):
        config = override(FROZEN, arm.settings)
        needs = config.training.uses_masks(arm.stage) or config.training.confidence_by_class
        assert not needs or arm.after is not None, arm.name
        assert arm.after is None or arm.after in names[:number], arm.name
    assert equal_compute(4, 8) == (12 + 2 * (36 + 8)) / 12


def test_the_report_pairs_seeds_with_the_best_supervised_arm(tmp_path: Path) -> None:
    def run(arm: str, stage: int, seed: int, raw: float, average: float) -> None:
        scores = {
            weights: dict.fromkeys(("val", "train", "unlabelled", "unlabelled flip"), value)
            for weights, value in (("raw", raw), ("average", average))
        }
        content = {"arm": arm, "stage": stage, "seed": seed, "scores": scores, "curve": {"5": average}, "seconds": 1.0}
        (tmp_path / f"{arm}-seed-{seed}.json").write_text(json.dumps(content))

    for seed, level in enumerate((0.30, 0.50, 0.40)):
        run("short", 1, seed, level - 0.1, level - 0.2)
        run("long", 1, seed, level, level - 0.1)  # its raw weights are better
        run("recipe", 2, seed, level + 0.5, level + 0.02)  # the teacher's weights count
    run("lucky", 1, 0, 0.9, 0.9)  # one seed alone
    text = write_report(tmp_path, ["short", "long", "recipe", "lucky"])
    assert "| recipe | 3 | 0.420 | 0.420 | 0.420 | 0.420 | +2.0 [+2.0, +2.0] |" in text
    assert "Differences in points to long" in text and "| long | 3 | 0.400 |" in text
    assert (tmp_path / "curves.png").stat().st_size > 1000 and (tmp_path / "report.md").read_text().strip() == text
