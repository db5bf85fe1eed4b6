"""The three-stage framework on a labelled folder (CamVid), compared with training on the same labels only.

    python tests/benchmarks/bench_three_stage.py --train CamVid/train --val CamVid/val --weights mobilenet_v2.pth

The benchmark runs the pipeline's training in one process without Ray Train. For every seed it trains on the labels only
for as many steps as the longest stage, then stages 1, 2 and 3. Scores are of the last weights and, separately, of the
best checkpoint by the validation images, which select nothing else. The seed draws the labelled images, their order and
augmentation, and the initial weights. One JSON line per training is appended to scores.jsonl in --output.
"""

import argparse
import json
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from fss.collection import Collection, ingest_local
from fss.collection.class_map import ClassTable
from fss.collection.sources import SourceConfig
from fss.evaluation.semantic import seed_interval
from fss.models.backbones.sequential import SequentialBackbone
from fss.models.semantic.config import SemanticConfig
from fss.models.semantic.network import build_semantic
from fss.training.semi_supervised.batches import SemanticStream
from fss.training.semi_supervised.config import (
    LabelledConfig,
    SemanticStreamConfig,
    Stage,
    StageConfig,
    StrongConfig,
    ThreeStageConfig,
    WeakConfig,
)
from fss.training.semi_supervised.mask_writer import (
    SemanticMasker,
    compare_mask_sets,
    evaluate_network,
    write_semantic_parts,
)
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import scan_rows
from fss.training.semi_supervised.three_stage import AUXILIARY_HEADS, SemanticLoop

TERMS = ("consistency", "pseudo")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="folder with images/ and class-index masks/")
    parser.add_argument("--val", required=True, help="the same for validation")
    parser.add_argument("--void", type=int, default=11, help="value of ignored pixels in a mask")
    parser.add_argument("--weights", default=None, help="backbone weights")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--network", default="lraspp")
    parser.add_argument("--labelled", type=int, default=37)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--steps", type=int, default=800, help="steps of stages 2 and 3, and of the supervised training"
    )
    parser.add_argument("--first-steps", type=int, default=400, help="steps of stage 1")
    parser.add_argument("--batch", type=int, nargs=2, default=[4, 4], help="labelled and pool images per step")
    parser.add_argument("--crop", type=int, nargs=2, default=[144, 192])
    parser.add_argument("--scales", type=float, nargs=2, default=[0.7, 1.3])
    parser.add_argument("--operations", type=int, default=2, help="operations of the strong augmentation")
    parser.add_argument(
        "--cutouts", type=int, nargs=2, default=[1, 24], help="number of squares, and their side in pixels"
    )
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--backbone-rate", type=float, default=2e-4)
    parser.add_argument("--decay", default="poly")
    parser.add_argument("--ema", type=float, default=0.98)
    parser.add_argument("--supervised-weight", type=float, default=0.5)
    parser.add_argument("--consistency-weight", type=float, default=0.5)
    parser.add_argument("--ramp-up", type=int, default=200)
    parser.add_argument("--frozen", type=int, default=4, help="number of frozen first blocks of MobileNetV2")
    parser.add_argument("--confidence", type=float, default=None)
    parser.add_argument("--evaluate-every", type=int, default=200)
    parser.add_argument("--trainings", nargs="+", default=["supervised", "1", "2", "3"])
    parser.add_argument("--without", choices=TERMS, default=None, help="a term of the loss of stages 2 and 3 to drop")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/bench-three-stage"))
    return parser.parse_args()


def collect(path: Path, folder: str, void: int) -> Collection:
    """Ingest a labelled folder into a collection."""
    source = SourceConfig(path=folder, masks="index", background=None, void=(void,))
    return ingest_local(source, str(path))


@dataclass(frozen=True, kw_only=True)
class Without(ThreeStageConfig):
    """Stages 2 and 3 without one term of the loss."""

    part: str
    """Term to drop: consistency or pseudo."""

    def loss_weights(self, step: int) -> dict[str, float]:
        """Return the weights of the terms, with 0 for the dropped one."""
        return super().loss_weights(step) | {self.part: 0.0}


@dataclass(frozen=True, kw_only=True)
class Score:
    """Result of one training."""

    name: str
    """Name of the training: supervised, or the number of the stage."""
    seed: int
    """Seed of all random draws."""
    last: float
    """mIoU of the last weights; of the teacher's in stages 2 and 3."""
    best: float
    """Best mIoU of a checkpoint."""
    best_step: int
    """Step of the best checkpoint."""
    masks: float | None
    """mIoU of the stage's masks with the truth of all training images, most of which no training uses."""
    seconds: float
    """Seconds of training, evaluation and masks."""


class Bench:
    """The trainings of one seed."""

    def __init__(self, options: argparse.Namespace, train: Collection, val: Collection, seed: int):
        self.options, self.seed, self.train_set = options, seed, train
        self.table = ClassTable(train.classes)
        self.val_truth, self.truth = val.mask_set("truth"), train.mask_set("truth")
        self.val_rows = scan_rows(self.val_truth, LabelledConfig())
        self.val_reader = SemanticReader(val, self.table, cache_gb=1)
        self.rows = scan_rows(self.truth, LabelledConfig(count=options.labelled, seed=seed))
        labelled, pool = options.batch
        many = StageConfig(steps=options.steps, labelled=labelled, pool=pool)
        settings = ThreeStageConfig if options.without is None else partial(Without, part=options.without)
        self.config = settings(
            first=StageConfig(steps=options.first_steps, labelled=labelled, pool=0),
            second=many,
            third=many,
            learning_rate=options.rate,
            backbone_learning_rate=options.backbone_rate,
            decay=options.decay,
            ema=((0, options.ema),),
            supervised_weight=options.supervised_weight,
            consistency_weight=options.consistency_weight,
            ramp_up=options.ramp_up,
            confidence=options.confidence,
        )

    def run(self, name: str) -> Score:
        """Train ``supervised`` or a stage, evaluate it, and write the masks of a stage."""
        start_s = time.monotonic()
        stage: Stage = 1 if name == "supervised" else int(name)  # type: ignore[assignment]
        config = self.config
        if name == "supervised":
            config = replace(config, first=replace(config.first, steps=self.options.steps))
        loop = self._loop(config, stage)
        scores = {}
        for report in loop.run():
            if report.step % self.options.evaluate_every == 0 or report.step == loop.steps:
                with loop.ema.applied(loop.network) if loop.ema else nullcontext():
                    scores[report.step] = evaluate_network(
                        loop.network, self.val_reader, self.val_rows, self.val_truth
                    ).miou()
                print(
                    f"seed {self.seed} {name} step {report.step} {report.parts} mIoU {scores[report.step]:.4f}",
                    flush=True,
                )
        masks = None
        if name != "supervised":
            with loop.ema.applied(loop.network) if loop.ema else nullcontext():
                masks = self._masks(loop, stage)
        best = max(scores, key=lambda step: scores[step])
        return Score(
            name=name,
            seed=self.seed,
            last=scores[loop.steps],
            best=scores[best],
            best_step=best,
            masks=masks,
            seconds=round(time.monotonic() - start_s, 1),
        )

    def _loop(self, config: ThreeStageConfig, stage: Stage) -> SemanticLoop:
        network = build_semantic(
            SemanticConfig(
                network=self.options.network,
                backbone=self.options.backbone,
                backbone_weights=self.options.weights,
                stride=16,
                seed=self.seed,
            ),
            classes=len(self.table),
            auxiliary=AUXILIARY_HEADS[stage],
        )
        if isinstance(network.backbone, SequentialBackbone):
            network.backbone.features[: self.options.frozen].requires_grad_(False)
        weak = WeakConfig(crop=tuple(self.options.crop), scales=tuple(self.options.scales))
        cutouts, side = self.options.cutouts
        strong = StrongConfig(operations=self.options.operations, cutouts=cutouts, cutout_size=side)
        stream = SemanticStream(
            SemanticReader(self.train_set, self.table, cache_gb=2),
            self.rows,
            SemanticStreamConfig(weak=weak, strong=strong, seed=self.seed, decode_threads=1, ahead=2),
            truth=self.truth,
            pseudo=self.train_set.mask_set(self._set(stage - 1)) if stage > 1 else None,
            labelled=config.stage(stage).labelled,
            pool=config.stage(stage).pool,
        )
        return SemanticLoop(network, stream, config, stage=stage)

    def _set(self, stage: int) -> str:
        changed = f"without-{self.options.without}-" if self.options.without and stage > 1 else ""
        return f"seed-{self.seed}-{changed}stage-{stage}"

    def _masks(self, loop: SemanticLoop, stage: int) -> float:
        masks = self.train_set.create_mask_set(
            self._set(stage), config_hash="0" * 16, provenance={"method": "bench"}, overwrite=True
        )
        masker = SemanticMasker(network=loop.network.eval(), table=self.table)
        for _, outcome in write_semantic_parts(self.train_set.part_names(), masks=masks, masker=masker):
            if isinstance(outcome, Exception):
                raise outcome
        return compare_mask_sets(masks, self.truth, self.table, self.train_set.part_names()).miou()


def main() -> None:
    """Run all seeds and print their means."""
    options = parse()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    train, val = (collect(options.output / name, getattr(options, name), options.void) for name in ("train", "val"))
    scores: list[Score] = []
    for seed in options.seeds:
        bench = Bench(options, train, val, seed)
        for name in options.trainings:
            scores.append(bench.run(name))
            line = json.dumps(asdict(scores[-1]) | {"without": options.without})
            print(line, flush=True)
            with (options.output / "scores.jsonl").open("a") as file:
                file.write(line + "\n")
    for name in options.trainings if len(options.seeds) > 1 else ():
        for which in ("last", "best"):
            interval = seed_interval([getattr(score, which) for score in scores if score.name == name])
            print(f"{name:>10} {which}: {interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]", flush=True)


if __name__ == "__main__":
    main()
