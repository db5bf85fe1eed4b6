"""Which settings of the split matter: a random sweep without labels, then every trial's model on labelled classes.

    python tests/benchmarks/bench_sweep.py --photographs PHOTOS --labelled FEWSHOT --weights mobilenet_v2.pth
    python tests/benchmarks/bench_sweep.py --photographs PHOTOS --labelled FEWSHOT --weights ... --trials 8 --steps 40

PHOTOS is a collection with the mask set "saliency" and an acceptance "default" (pipelines.ingest and
pipelines.pseudomask), FEWSHOT one with truth and a split "test". Trials are drawn at random and none is stopped early,
so that all of them can be compared. For each setting the table gives its share of the variance (fANOVA) and how likely
so strong a relation would be by chance (permutations of the trials), once for the held-out pseudo-tasks and once for
the labelled episodes, and below it whether the two agree. Started again with the same settings it goes on where it was.
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
from pipelines.runtime.config import TrackingConfig
from pipelines.tuning.config import TuneJobConfig
from pipelines.tuning.importance import importance
from pipelines.tuning.plots import importance_bars, parallel_coordinates
from pipelines.tuning.space import Dimension
from pipelines.tuning.trial_runs import TrialRecord, read_trials

PERMUTATIONS = 2000
Values = NDArray[np.float64]


def parse() -> argparse.Namespace:
    """Read the command line; the defaults take about an hour on two cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", required=True, help="collection with masks to learn from")
    parser.add_argument("--labelled", required=True, help="collection with truth and a split 'test'")
    parser.add_argument("--weights", required=True, help="of the backbone")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-sweep"))
    parser.add_argument("--space", nargs="+", default=["split", "tasks"])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--episodes", type=int, default=300, help="labelled episodes")
    parser.add_argument("--tracking", default=None, help="MLflow store")
    return parser.parse_args()


def settings(options: argparse.Namespace) -> TuneJobConfig:
    """Return the sweep: frozen backbone, the rate that suits short trainings, no early stops."""
    return TuneJobConfig(
        collection=options.photographs,
        output=str(options.output),
        name="sweep",
        segmenter=SegmenterConfig(backbone=options.backbone, backbone_weights=options.weights, image_size=options.size),
        stream=StreamConfig(batch_size=16, lanes=8, held_out=0.1),
        training=OptimizerConfig(steps=options.steps, learning_rate=1e-3, ema=0.98),
        checkpoint_every=options.steps,
        held_out_tasks=192,
        space=tuple(options.space),
        trials=options.trials,
        searcher="random",
        prune=False,
        tracking=TrackingConfig(uri=options.tracking),
    )


def labelled_scores(
    options: argparse.Namespace, trials: Sequence[TrialRecord], tracking: TrackingConfig
) -> tuple[list[float], str]:
    """Return every trial's 1-shot mIoU on the same episodes of the test classes, and their plan."""
    scores, plan = [], ""
    for number, trial in enumerate(trials, start=1):
        found = evaluate.run(
            evaluate.EvaluateConfig(
                checkpoint=str(options.output / "sweep/trials" / trial.trial_id / "model"),
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
        scores.append(float(found.metrics["1-shot/model/mIoU"]))
        plan = str(found.inputs["1-shot plan"])
        print(f"[labelled] {number}/{len(trials)}: held out {trial.objective:.4f}, mIoU {scores[-1]:.4f}", flush=True)
    return scores, plan


def strength(dimension: Dimension, drawn: Sequence[Any]) -> Callable[[Values], float]:
    """Return how strongly scores go with a setting: |Spearman's rho| of numbers, Kruskal-Wallis' H of choices."""
    if not dimension.choices:
        values = np.array(drawn, float)
        return lambda scores: abs(float(spearmanr(values, scores).statistic))
    groups = [np.array([each == choice for each in drawn]) for choice in dimension.choices]
    there = [group for group in groups if group.any()]
    return lambda scores: float(kruskal(*(scores[group] for group in there)).statistic) if len(there) > 1 else 0.0


def chance(measure: Callable[[Values], float], scores: Values, seed: int) -> float:
    """Return the share of permutations in which the relation is at least as strong."""
    rng, found = keyed_rng(seed, purpose="bench.sweep"), measure(scores)
    stronger = sum(measure(rng.permutation(scores)) >= found - 1e-12 for _ in range(PERMUTATIONS))
    return (stronger + 1) / (PERMUTATIONS + 1)


def effect(dimension: Dimension, drawn: Sequence[Any], scores: Values) -> str:
    """Say in which direction: the mean score by choice, or of the lower and the upper half of a range."""
    if dimension.choices:
        pairs = [
            (choice, [score for value, score in zip(drawn, scores, strict=True) if value == choice])
            for choice in dimension.choices
        ]
        return ", ".join(f"{choice} {np.mean(some):.3f}" for choice, some in pairs if some)
    values = np.array(drawn, float)
    low = values <= np.median(values)
    return f"low {scores[low].mean():.3f}, high {scores[~low].mean():.3f}"


def analyse(space: Mapping[str, Dimension], trials: Sequence[TrialRecord], scores: Sequence[float]) -> dict[str, Any]:
    """Return shares, chances and directions for both kinds of scores, and how far these agree."""
    held_out, labelled = np.array([trial.objective for trial in trials], float), np.array(scores)
    judged = {
        "held out": list(trials),
        "labelled": [replace(trial, curve={1: score}) for trial, score in zip(trials, scores, strict=True)],
    }
    shares = {name: importance(space, records) for name, records in judged.items()}
    table = []
    for number, (name, dimension) in enumerate(space.items()):
        drawn = [trial.values[name] for trial in trials]
        measure = strength(dimension, drawn)
        row: dict[str, Any] = {"setting": name}
        for kind, values in (("held out", held_out), ("labelled", labelled)):
            found = shares[kind]
            row[kind] = {
                "share": found.shares[name] if found else None,
                "chance": chance(measure, values, number),
                "direction": effect(dimension, drawn, values),
            }
        table.append(row)
    rng = keyed_rng(0, purpose="bench.sweep.agreement")
    again = [rng.integers(len(trials), size=len(trials)) for _ in range(1000)]
    resampled = [float(spearmanr(held_out[rows], labelled[rows]).statistic) for rows in again]
    agreement = [float(spearmanr(held_out, labelled).statistic), *np.nanquantile(resampled, [0.025, 0.975]).tolist()]
    best = int(held_out.argmax())
    return {
        "settings": table,
        "agreement": agreement,
        "trials": len(trials),
        "best by held out": {"labelled": scores[best], "rank": int((labelled > labelled[best]).sum()) + 1},
        "labelled": {"lowest": min(scores), "median": float(np.median(labelled)), "highest": max(scores)},
    }


def markdown(found: Mapping[str, Any], plan: str) -> str:
    """Return the finding as a Markdown table."""
    lines = [
        "| setting | held out: share | p | mean | labelled: share | p | mean mIoU |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["settings"]:
        cells = [row["setting"]]
        for kind in ("held out", "labelled"):
            share = row[kind]["share"]
            cells += ["" if share is None else f"{share:.2f}", f"{row[kind]['chance']:.3f}", row[kind]["direction"]]
        lines.append("| " + " | ".join(cells) + " |")
    rho, low, high = found["agreement"]
    best, spread = found["best by held out"], found["labelled"]
    return "\n".join(
        [
            *lines,
            "",
            f"{found['trials']} trials; labelled plan {plan}; mIoU {spread['lowest']:.3f} to {spread['highest']:.3f}, "
            f"median {spread['median']:.3f}. Spearman's rho of both scores {rho:.2f} [{low:.2f}, {high:.2f}]. The best "
            f"by held-out tasks has mIoU {best['labelled']:.3f}, rank {best['rank']}.",
            "",
        ]
    )


def main() -> None:
    """Sweep, evaluate, analyse."""
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
    found = analyse(space, trials, scores)
    text = markdown(found, plan)
    (options.output / "finding.json").write_text(json.dumps(found, indent=2) + "\n")
    (options.output / "finding.md").write_text(text)
    judged = [replace(trial, curve={1: score}) for trial, score in zip(trials, scores, strict=True)]
    shares = importance(space, judged)
    if shares is not None:
        save_png(importance_bars(shares, objective="1-shot mIoU, labelled"), options.output / "importance.png")
    sheet = parallel_coordinates(space, judged, objective="1-shot mIoU, labelled", mode="max")
    save_png(sheet, options.output / "parallel-coordinates.png")
    print(text, flush=True)


if __name__ == "__main__":
    main()
