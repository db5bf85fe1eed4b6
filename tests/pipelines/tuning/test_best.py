"""What is left of a search: the best settings as a file, a table, what mattered, and pictures of it."""

import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.collections import LineCollection

from fss.core.rng import keyed_rng
from fss.models import SegmenterConfig
from pipelines.end_to_end.config import MaskSplitJobConfig
from pipelines.end_to_end.presets import PRESETS, default_preset
from pipelines.runtime.command_line import read_config
from pipelines.training.config import TrainJobConfig, TrainSettings, train_job
from pipelines.tuning.best import best_settings, best_trial, table
from pipelines.tuning.importance import importance
from pipelines.tuning.plots import importance_bars, parallel_coordinates
from pipelines.tuning.space import apply, search_space
from pipelines.tuning.trial_runs import TrialResult

SPACE = search_space(TrainSettings(), ["split"], ["learning-rate=1e-4..1e-2 log", "width=64"])
WORDS = ("vertical", "horizontal", "either")


def draw(number: int) -> dict[str, object]:
    rng = keyed_rng(0, item=number, purpose="test.tune")
    return {
        "split.direction": WORDS[int(rng.integers(3))],
        "split.ratio": float(rng.uniform(0.2, 0.5)),
        "split.tilt": float(rng.uniform(0, 0.6)),
        "split.margin": float(rng.uniform(0, 0.3)),
        "split.ignore-support": bool(rng.integers(2)),
        "learning-rate": float(10 ** rng.uniform(-4, -2)),
        "width": 64,
    }


@pytest.fixture(scope="module")
def trials() -> list[TrialResult]:
    """Thirty trials in which the tilt alone matters; every third was stopped early."""
    found = []
    for number in range(30):
        values = draw(number)
        score = 0.5 - 0.4 * float(values["split.tilt"])  # type: ignore[arg-type]
        pruned = number % 3 == 0
        curve = {10: score} if pruned else {10: score, 20: score + 0.1}
        state = "pruned" if pruned else "completed"
        found.append(TrialResult(trial_id=f"t{number}", run_id="r", state=state, values=values, curve=curve))
    return found


def test_the_best_was_trained_to_the_end(trials: list[TrialResult]) -> None:
    best = best_trial(trials, "max")
    whole = [trial for trial in trials if trial.state == "completed"]
    assert best.values["split.tilt"] == min(trial.values["split.tilt"] for trial in whole)
    assert best_trial(trials, "min").objective == min(trial.objective or 1 for trial in whole)


def test_without_a_completed_trial_the_first_failure_is_told(trials: list[TrialResult]) -> None:
    pruned = [trial for trial in trials if trial.state == "pruned"][:2]
    failed = [
        TrialResult(trial_id=name, run_id="r", state="failed", error=f"ValueError: no pictures in {name}")
        for name in ("first", "second")
    ]
    text = "none of 4 trials reached the last step; first failed: ValueError: no pictures in first (2 trials failed)"
    with pytest.raises(RuntimeError, match=f"^{re.escape(text)}$"):
        best_trial([*pruned, *failed], "max")
    with pytest.raises(RuntimeError, match=r"x failed: OSError: gone$"):
        best_trial([TrialResult(trial_id="x", run_id="r", state="failed", error="OSError: gone")], "max")
    with pytest.raises(RuntimeError, match=r"none of 2 trials reached the last step; all were stopped early$"):
        best_trial(pruned, "max")


def test_the_best_settings_are_read_by_training_and_the_main_job(tmp_path: Path) -> None:
    base = TrainSettings(segmenter=SegmenterConfig(backbone="resnet18", image_size=96))
    values = draw(0) | {"accept-quantile": 0.45, "masking": "hybrid"}
    trained = apply(base, values)
    file = tmp_path / "best.json"
    file.write_text(json.dumps(best_settings(trained, values)))

    words = ["--config", str(file), "--collection", "c", "--output", "o"]
    assert read_config(TrainJobConfig, words, job="train") == train_job(trained, collection="c", output="o")
    words = ["--config", str(file), "--photographs", "c"]
    main = read_config(MaskSplitJobConfig, words, job="masksplit", presets=PRESETS, default_preset=default_preset)
    assert main.train == trained
    assert main.pseudomask.accept_quantile == 0.45
    named = read_config(
        MaskSplitJobConfig, [*words, "--width", "32"], job="masksplit", presets=PRESETS, default_preset=default_preset
    )
    assert named.train.segmenter.width == 32, "what the command line names wins over the file"


def test_drawn_settings_without_effect_stay_out_of_the_best(tmp_path: Path) -> None:
    values = {"split.collage": 0.0, "split.as-released": True, "split.tilt": 0.4}
    sections = best_settings(apply(TrainSettings(), values), values)
    assert "tilt" not in sections["train"]["split"] and "collage_scale" not in sections["train"]["split"]
    file = tmp_path / "best.json"
    file.write_text(json.dumps(sections))
    words = ["--config", str(file), "--collection", "c", "--output", "o"]
    assert read_config(TrainJobConfig, words, job="train").split.as_released


def test_the_table_ranks_and_says_why(trials: list[TrialResult]) -> None:
    failed = TrialResult(trial_id="x", run_id="r", state="failed", error="ValueError: no pictures", values=draw(99))
    lines = table(SPACE, [*trials, failed], objective="held_out_iou", mode="max").splitlines()
    assert lines[0].split()[:4] == ["trial", "state", "steps", "held_out_iou"]
    scores = [float(line.split()[3]) for line in lines[2:32]]
    assert scores == sorted(scores, reverse=True)
    assert lines[32].startswith("x ")
    assert lines[33] == "x failed: ValueError: no pictures"
    assert "width" not in lines[0], "a fixed setting is no column"


def test_what_mattered_is_found_at_the_step_that_all_reached(trials: list[TrialResult]) -> None:
    found = importance(SPACE, trials)
    assert found is not None
    assert (found.step, found.trials) == (10, 30)
    assert next(iter(found.shares)) == "split.tilt"
    assert found.shares["split.tilt"] > 0.7
    assert sum(found.shares.values()) == pytest.approx(1)
    assert importance(SPACE, trials[:5]) is None, "too few"


def test_pictures(trials: list[TrialResult]) -> None:
    settings = dict(matplotlib.rcParams)
    few = parallel_coordinates(SPACE, trials[:2], objective="held_out_iou", mode="max")
    many = parallel_coordinates(SPACE, trials, objective="held_out_iou", mode="max")
    assert few.shape == many.shape
    assert many.dtype == np.uint8
    assert (many < 250).sum() > (few < 250).sum(), "more lines, more ink"
    found = importance(SPACE, trials)
    assert found is not None
    bars = importance_bars(found, objective="held_out_iou")
    blue = (np.abs(bars.astype(int) - (0x31, 0x82, 0xBD)).max(2) < 8).sum(1)
    assert blue.max() > bars.shape[1] / 3, "the longest bar fills most of its axis"
    assert not pyplot.get_fignums(), "every figure is closed"
    assert dict(matplotlib.rcParams) == settings


def test_the_lines_of_stopped_trials_are_dashed(trials: list[TrialResult], monkeypatch: pytest.MonkeyPatch) -> None:
    styles: list[str] = []
    monkeypatch.setattr(LineCollection, "set_linestyle", lambda _, value: styles.extend(value))
    parallel_coordinates(SPACE, trials, objective="held_out_iou", mode="max")
    assert styles.count("--") == sum(trial.state == "pruned" for trial in trials) == 10
    assert styles.count("-") == 20
