"""Importance of the split settings: a random sweep without labels, with every model evaluated on labelled classes.

    python -m tests.benchmarks.bench_sweep --photographs PHOTOS --labelled FEWSHOT --weights mobilenet_v2.pth
    python -m tests.benchmarks.bench_sweep --photographs PHOTOS --labelled FEWSHOT --weights ... --trials 8 --steps 40

PHOTOS is a collection with the mask set "saliency" and an acceptance "default" (pipelines.ingest and
pipelines.pseudomask), FEWSHOT one with truth and a split "test". Trials are drawn at random and none is stopped early,
so all of them can be compared. For each setting the table shows its share of the variance (fANOVA) and a p-value by
permutations of the trials, for the held-out pseudo-tasks and for the labelled episodes. Below it stands the rank
correlation of the two scores. Started again with the same settings, the benchmark resumes.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kruskal, spearmanr

from fss.core.rng import keyed_rng
from fss.models import SegmenterConfig
from fss.tracking.run import Run
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from fss.visualize import save_png
from pipelines import evaluate, tune
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.runtime.config import TrackingConfig
from pipelines.training.config import TrainSettings
from pipelines.tuning.config import TuneJobConfig
from pipelines.tuning.importance import importance
from pipelines.tuning.plots import importance_bars, parallel_coordinates
from pipelines.tuning.space import Dimension
from pipelines.tuning.trial_runs import TrialResult, read_trials

PERMUTATIONS = 2000
Values = NDArray[np.float64]


def parse() -> argparse.Namespace:
    """Read the command line; the defaults take about an hour on two cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", required=True, help="collection with pseudo-masks")
    parser.add_argument("--labelled", required=True, help="collection with truth and a split 'test'")
    parser.add_argument("--weights", required=True, help="weights of the backbone")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-sweep"))
    parser.add_argument("--space", nargs="+", default=["split", "tasks"])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--episodes", type=int, default=300, help="number of labelled episodes")
    parser.add_argument("--tracking", default=None, help="MLflow store")
    return parser.parse_args()


def settings(options: argparse.Namespace) -> TuneJobConfig:
    """Return the sweep: frozen backbone, a learning rate for short trainings, no pruning."""
    return TuneJobConfig(
        collection=options.photographs,
        output=str(options.output),
        name="sweep",
        train=TrainSettings(
            segmenter=SegmenterConfig(
                backbone=options.backbone, backbone_weights=options.weights, image_size=options.size
            ),
            stream=StreamConfig(batch_size=16, lanes=8, held_out=0.1),
            optimizer=OptimizerConfig(steps=options.steps, learning_rate=1e-3, ema=0.98),
            checkpoint_every=options.steps,
            held_out_tasks=192,
        ),
        space=tuple(options.space),
        trials=options.trials,
        searcher="random",
        prune=False,
        tracking=TrackingConfig(uri=options.tracking),
    )


def labelled_scores(
    options: argparse.Namespace, trials: Sequence[TrialResult], tracking: TrackingConfig
) -> tuple[list[float], str]:
    """Return the 1-shot mIoU of every trial on the same episodes of the test classes, and their plan's hash."""
    scores, plan = [], ""
    for number, trial in enumerate(trials, start=1):
        result = evaluate.run(
            EvaluateJobConfig(
                model=str(options.output / "sweep/trials" / trial.trial_id / "model"),
                collection=options.labelled,
                output=str(options.output / "labelled" / trial.trial_id),
                classes="test",
                episodes=options.episodes,
                shots=(1,),
                baselines=False,
                visualizations=0,
                workers=0,
                tracking=tracking,
            )
        )
        scores.append(float(result.metrics["1-shot/model/mIoU"]))
        plan = str(result.inputs["1-shot plan"])
        print(f"[labelled] {number}/{len(trials)}: held out {trial.objective:.4f}, mIoU {scores[-1]:.4f}", flush=True)
    return scores, plan


def strength(dimension: Dimension, settings: Sequence[Any]) -> Callable[[Values], float]:
    """Return a function from scores to their association with a setting.

    It is the absolute value of Spearman's rho for numbers, and the Kruskal-Wallis H statistic for choices.
    """
    if not dimension.choices:
        values = np.array(settings, float)
        return lambda scores: abs(float(spearmanr(values, scores).statistic))
    groups = [np.array([each == choice for each in settings]) for choice in dimension.choices]
    occurring = [group for group in groups if group.any()]
    if len(occurring) < 2:
        return lambda scores: 0.0
    return lambda scores: float(kruskal(*(scores[group] for group in occurring)).statistic)


def p_value(measure: Callable[[Values], float], scores: Values, seed: int) -> float:
    """Return the share of permutations with at least the same association."""
    rng, observed = keyed_rng(seed, purpose="bench.sweep"), measure(scores)
    # Equal scores have no association (nan) in any permutation, which is not weaker: p is 1.
    as_strong = sum(not measure(rng.permutation(scores)) < observed - 1e-12 for _ in range(PERMUTATIONS))
    return (as_strong + 1) / (PERMUTATIONS + 1)


def effect(dimension: Dimension, settings: Sequence[Any], scores: Values) -> str:
    """Return the mean score by choice, or of the lower and the upper half of a range, as text."""
    if dimension.choices:
        pairs = [
            (choice, [score for value, score in zip(settings, scores, strict=True) if value == choice])
            for choice in dimension.choices
        ]
        return ", ".join(f"{choice} {np.mean(some):.3f}" for choice, some in pairs if some)
    values = np.array(settings, float)
    low = values <= np.median(values)
    return f"low {scores[low].mean():.3f}, high {scores[~low].mean():.3f}"


def analyse(space: Mapping[str, Dimension], trials: Sequence[TrialResult], scores: Sequence[float]) -> dict[str, Any]:
    """Return shares, p-values and effects for both kinds of scores, and the agreement of the scores."""
    held_out, labelled = np.array([trial.objective for trial in trials], float), np.array(scores)
    by_kind = {
        "held out": list(trials),
        "labelled": [replace(trial, curve={1: score}) for trial, score in zip(trials, scores, strict=True)],
    }
    shares = {name: importance(space, records) for name, records in by_kind.items()}
    table = []
    for number, (name, dimension) in enumerate(space.items()):
        settings = [trial.values[name] for trial in trials]
        measure = strength(dimension, settings)
        row: dict[str, Any] = {"setting": name}
        for kind, values in (("held out", held_out), ("labelled", labelled)):
            result = shares[kind]
            row[kind] = {
                "share": result.shares[name] if result else None,
                "p": p_value(measure, values, number),
                "effect": effect(dimension, settings, values),
            }
        table.append(row)
    rng = keyed_rng(0, purpose="bench.sweep.agreement")
    resamples = [rng.integers(len(trials), size=len(trials)) for _ in range(1000)]
    resampled = [float(spearmanr(held_out[rows], labelled[rows]).statistic) for rows in resamples]
    agreement = [float(spearmanr(held_out, labelled).statistic), *np.nanquantile(resampled, [0.025, 0.975]).tolist()]
    best = int(held_out.argmax())
    return {
        "settings": table,
        "agreement": agreement,
        "trials": len(trials),
        "best by held out": {"labelled": scores[best], "rank": int((labelled > labelled[best]).sum()) + 1},
        "labelled": {"lowest": min(scores), "median": float(np.median(labelled)), "highest": max(scores)},
    }


def markdown(analysis: Mapping[str, Any], plan: str) -> str:
    """Return the analysis as a Markdown table."""
    lines = [
        "| setting | held out: share | p | mean | labelled: share | p | mean mIoU |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in analysis["settings"]:
        cells = [row["setting"]]
        for kind in ("held out", "labelled"):
            share = row[kind]["share"]
            cells += ["" if share is None else f"{share:.2f}", f"{row[kind]['p']:.3f}", row[kind]["effect"]]
        lines.append("| " + " | ".join(cells) + " |")
    rho, low, high = analysis["agreement"]
    best, spread = analysis["best by held out"], analysis["labelled"]
    return "\n".join(
        [
            *lines,
            "",
            f"{analysis['trials']} trials; labelled plan {plan}; mIoU {spread['lowest']:.3f} to "
            f"{spread['highest']:.3f}, median {spread['median']:.3f}. Spearman's rho of both scores {rho:.2f} "
            f"[{low:.2f}, {high:.2f}]. The best trial by held-out tasks has mIoU {best['labelled']:.3f}, "
            f"rank {best['rank']}.",
            "",
        ]
    )


def main() -> None:
    """Run the sweep, evaluate its models and analyse the scores."""
    options = parse()
    options.output = options.output.absolute()
    torch.set_num_threads(2)
    config = settings(options)
    summary = tune.run(config)
    print(summary.report, flush=True)
    record = Run.resume(str(summary.run_id), uri=config.tracking.uri)
    assert record is not None
    record.end()
    trials = [trial for trial in read_trials(record) if trial.state == "completed"]
    scores, plan = labelled_scores(options, trials, config.tracking)
    space = {name: each for name, each in config.dimensions_by_name.items() if len(each.choices) != 1}
    analysis = analyse(space, trials, scores)
    text = markdown(analysis, plan)
    (options.output / "analysis.json").write_text(json.dumps(analysis, indent=2) + "\n")
    (options.output / "analysis.md").write_text(text)
    labelled = [replace(trial, curve={1: score}) for trial, score in zip(trials, scores, strict=True)]
    shares = importance(space, labelled)
    if shares is not None:
        save_png(importance_bars(shares, objective="1-shot mIoU, labelled"), options.output / "importance.png")
    sheet = parallel_coordinates(space, labelled, objective="1-shot mIoU, labelled", mode="max")
    save_png(sheet, options.output / "parallel-coordinates.png")
    print(text, flush=True)


if __name__ == "__main__":
    main()
