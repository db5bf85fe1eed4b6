"""Self-training on a labelled folder (CamVid), compared with training on the same labels alone.

    python -m tests.benchmarks.bench_three_stage --train CamVid/train --val CamVid/val --weights mobilenet_v2.pth

The benchmark runs the loop of ``pipelines.selftrain`` in one process without Ray. ``three_stage_arms.py`` names its
arms. The group ``rates`` chooses the learning rates on the labels alone, and compares class weights; all other arms
use the best rates. The seed draws the labelled pictures, their order and augmentation, and the initial weights, so
arms of a seed are pairs. Every run writes one JSON file into --output; a benchmark that was stopped continues with the
missing ones. ``report.md`` and ``curves.png`` are written after every run (``three_stage_report.py`` writes them
again).

The scores are of the last weights, raw and as the moving average of the teacher, on all pictures at their full size:
the validation pictures, all training pictures, and those without labels. No training depends on them, and no choice
but that of the rates, and of raw or averaged weights.
"""

import argparse
import json
import time
from collections.abc import Set
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fss.collection import Collection, ingest_local
from fss.collection.class_map import ClassTable
from fss.collection.sources import SourceConfig
from fss.core.config import override, to_dict
from fss.evaluation.semantic import ConfusionMatrix
from fss.models.semantic.checkpoint import load_semantic, save_semantic
from fss.models.semantic.config import LOWER_STAGES, SemanticConfig
from fss.models.semantic.network import LowerMaps, SemanticNetwork, build_semantic, start_from
from fss.training.ema import Ema
from fss.training.semi_supervised.batch_cache import BatchCache
from fss.training.semi_supervised.config import (
    LabelledConfig,
    SemanticStreamConfig,
    StageConfig,
    ThreeStageConfig,
    WeakConfig,
)
from fss.training.semi_supervised.mask_writer import SemanticMasker, write_semantic_parts
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import SemanticRows, scan_rows
from fss.training.semi_supervised.three_stage import SemanticLoop, auxiliary_head
from pipelines.self_training.config import SelfTrainConfig
from pipelines.self_training.data import SelfTrainData
from tests.benchmarks.three_stage_arms import BALANCE, GROUPS, RATES, Arm, all_arms
from tests.benchmarks.three_stage_report import mean, read_runs, write_report

Keys = Set[tuple[int, int]]
"""Part numbers and rows."""
Rates = tuple[float, float]
"""Learning rates of new layers and of the backbone."""
STAGES = {1: "first", 2: "second", 3: "third"}
"""Names of the stages in the settings."""
BATCH = 8
"""Pictures of one size that are scored together."""


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="folder with images/ and class-index masks/")
    parser.add_argument("--val", required=True, help="the same for validation")
    parser.add_argument("--void", type=int, default=11, help="value of ignored pixels in a mask")
    parser.add_argument("--weights", required=True, help="backbone weights")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--network", default="lraspp")
    parser.add_argument("--labelled", type=int, default=37)
    parser.add_argument("--steps", type=int, default=500, help="S, the steps of an arm of length 1")
    parser.add_argument("--batch", type=int, nargs=2, default=[4, 8], help="labelled and pool images per step")
    parser.add_argument("--crop", type=int, nargs=2, default=[192, 256])
    parser.add_argument("--scales", type=float, nargs=2, default=[0.8, 1.3])
    parser.add_argument("--frozen-stages", type=int, default=LOWER_STAGES)
    parser.add_argument(
        "--cache-features", type=int, default=6, help="epochs of the pool whose views repeat; 0: none do"
    )
    parser.add_argument("--cache-gb", type=float, default=3.0)
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--class-balance", type=float, default=BALANCE, help="exponent of the class weights")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--arms", nargs="+", default=None, help="run these arms alone")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of an arm")
    parser.add_argument("--contender-seeds", type=int, default=5, help="seeds of an arm of the group contenders")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/bench-three-stage"))
    return parser.parse_args()


def collect(path: Path, folder: str, void: int) -> Collection:
    """Ingest a labelled folder into a collection."""
    source = SourceConfig(path=folder, masks="index", background=None, void=(void,))
    return ingest_local(source, str(path))


def base_config(options: argparse.Namespace, train: Collection, seed: int, rates: Rates) -> SelfTrainConfig:
    """Return the settings that all arms share."""
    labelled, pool = options.batch
    many = StageConfig(steps=options.steps, labelled=labelled, pool=pool)
    return SelfTrainConfig(
        collection=train.uri,
        output=str(options.output),
        labelled=LabelledConfig(count=options.labelled, seed=seed),
        network=SemanticConfig(
            network=options.network,
            backbone=options.backbone,
            backbone_weights=options.weights,
            stride=16,
            frozen_stages=options.frozen_stages,
            seed=seed,
        ),
        stream=SemanticStreamConfig(
            weak=WeakConfig(crop=tuple(options.crop), scales=tuple(options.scales)),
            seed=seed,
            decode_threads=1,
            ahead=0,
            cache_gb=options.cache_gb,
            cache_features=options.cache_features,
        ),
        training=ThreeStageConfig(
            first=replace(many, pool=0),
            second=many,
            third=many,
            learning_rate=rates[0],
            backbone_learning_rate=rates[1],
            decay="poly",
            class_balance=options.class_balance,
            ema=((0, options.ema),),
            mask_tta="flip",
        ),
    )


class Scorer:
    """Scores networks on all pictures of a collection; those of frozen layers are encoded once."""

    def __init__(self, truth_rows: SemanticRows, reader: SemanticReader, network: SemanticNetwork, options: Any):
        """Read all pictures that have labels, and their mirrored forms."""
        truth = reader.collection.mask_set("truth")
        encode = network.lower if options.frozen_stages >= LOWER_STAGES else lambda pixels: pixels
        self.keys = [(part, row) for part, rows in enumerate(truth_rows.labelled) for row in rows.tolist()]
        self._views: list[list[torch.Tensor | LowerMaps]] = []
        self._labels: list[torch.Tensor] = []
        for start in range(0, len(self.keys), BATCH):
            keys = self.keys[start : start + BATCH]
            pixels = torch.stack([torch.from_numpy(reader.picture(*key).transpose(2, 0, 1).copy()) for key in keys])
            self._views.append([encode(pixels), encode(pixels.flip(3))])
            self._labels.append(torch.stack([torch.from_numpy(reader.labels(truth, *key)) for key in keys]))

    @torch.inference_mode()
    def scores(self, network: SemanticNetwork, *, without: Keys = frozenset(), flip: bool = True) -> dict[str, float]:
        """Return the mIoU of all pictures and of all but some, of one pass and with the mirrored one."""
        network.eval()
        confusions: dict[str, ConfusionMatrix] = {}
        keys = iter(self.keys)
        for (plain, mirrored), labels in zip(self._views, self._labels, strict=True):
            scores = network(plain).main.softmax(1)
            predicted = {"": scores.argmax(1)}
            if flip:
                predicted[" flip"] = (scores + network(mirrored).main.flip(3).softmax(1)).argmax(1)
            for number, key in zip(range(len(labels)), keys, strict=False):
                for way, answers in predicted.items():
                    for name in (f"all{way}", *([f"rest{way}"] if key not in without else [])):
                        confusion = confusions.setdefault(name, ConfusionMatrix(network.classes))
                        confusion.add(answers[number], labels[number])
        return {name: confusion.miou() for name, confusion in confusions.items()}


class Bench:
    """The runs of one seed, which share the cached features."""

    def __init__(
        self, options: argparse.Namespace, train: Collection, seed: int, rates: Rates, scorers: dict[str, Scorer]
    ):
        self.options, self.seed = options, seed
        self.base = base_config(options, train, seed, rates)
        self.data = SelfTrainData.open(self.base)
        self.features = BatchCache(options.cache_gb)
        self.scorers = scorers
        rows = self.data.rows.labelled
        self.labelled = {(part, row) for part, numbers in enumerate(rows) for row in numbers.tolist()}

    def run(self, arm: Arm) -> dict[str, Any]:
        """Train an arm, score it and keep its model."""
        start_s = time.monotonic()
        config = override(self.base, arm.settings)
        stage, steps = STAGES[arm.stage], round(config.training.stage(arm.stage).steps * arm.lengths)
        config = override(config, {"training": {stage: {"steps": steps}}})
        loop = self._loop(arm, config)
        # Supervised training gets a moving average too, so that none is ahead by that alone.
        average = loop.ema or Ema(loop.network, self.options.ema)
        curve: dict[int, float] = {}
        for report in loop.run():
            if loop.ema is None:
                average.update(loop.network)
            if report.step % max(1, self.options.steps // 4) == 0:
                with average.applied(loop.network):
                    value = curve[report.step] = self.scorers["val"].scores(loop.network, flip=False)["all"]
                print(f"{arm.name} seed {self.seed} step {report.step} {report.parts} val {value:.4f}", flush=True)
        scores = {}
        for weights, context in (("raw", nullcontext()), ("average", average.applied(loop.network))):
            with context:
                scores[weights] = self._scores(loop.network)
        with average.applied(loop.network):
            save_semantic(loop.network, self._model(arm.name), class_ids=self.data.table.ids)
        return {
            "arm": arm.name,
            "group": arm.group,
            "stage": arm.stage,
            "seed": self.seed,
            "scores": scores,
            "curve": curve,
            "steps": steps,
            "seconds": round(time.monotonic() - start_s, 1),
            "settings": to_dict(config),
        }

    def _scores(self, network: SemanticNetwork) -> dict[str, float]:
        val = self.scorers["val"].scores(network)
        train = self.scorers["train"].scores(network, without=self.labelled)
        return {
            "val": val["all"],
            "val flip": val["all flip"],
            "train": train["all"],
            "unlabelled": train["rest"],
            "unlabelled flip": train["rest flip"],
        }

    def _loop(self, arm: Arm, config: SelfTrainConfig) -> SemanticLoop:
        network = self._network(config, auxiliary_head(config.training, arm.stage))
        data = replace(self.data, config=config)
        if arm.after is not None and config.training.start == "stage-before":
            start_from(network, load_semantic(self._model(arm.after))[0])
        if arm.stage > 1 and (config.training.uses_masks(arm.stage) or config.training.confidence_by_class):
            assert arm.after is not None, f"{arm.name} learns from the masks of another arm"
            prefix = f"seed-{self.seed}-{arm.after}".lower()
            config = replace(config, output_mask_set=prefix)
            self._write_masks(config.stage_mask_set(1 if arm.stage == 2 else 2), arm.after)
            data = replace(self.data, config=config)
        data = data.for_stage(arm.stage)
        stream = data.stream(arm.stage, rank=0, world=1, features=self.features)
        return SemanticLoop(network, stream, config.training, stage=arm.stage, statistics=data.statistics)

    def _network(self, config: SelfTrainConfig, auxiliary: Any) -> SemanticNetwork:
        return build_semantic(config.network, classes=len(self.data.table), auxiliary=auxiliary)

    def _model(self, name: str) -> str:
        return str(self.options.output / "models" / f"{name}-seed-{self.seed}")

    def _write_masks(self, name: str, arm: str) -> None:
        collection = self.data.collection
        if name in collection.mask_set_names():
            return
        masks = collection.create_mask_set(name, config_hash="0" * 16, provenance={"method": "bench"})
        masker = SemanticMasker(network=load_semantic(self._model(arm))[0], table=self.data.table, tta="flip")
        for _, outcome in write_semantic_parts(collection.part_names(), masks=masks, masker=masker):
            if isinstance(outcome, Exception):
                raise outcome


def make_scorers(options: argparse.Namespace, collections: dict[str, Collection]) -> dict[str, Scorer]:
    """Return the scorers of all arms and seeds, whose frozen stages are the same."""
    config = base_config(options, collections["train"], 0, RATES[0])
    table = ClassTable(collections["train"].classes)
    network = build_semantic(config.network, classes=len(table)).eval()
    return {
        name: Scorer(scan_rows(each.mask_set("truth"), LabelledConfig()), SemanticReader(each, table), network, options)
        for name, each in collections.items()
    }


def chosen_rates(folder: Path) -> Rates:
    """Return the rates whose supervised arm is best on the validation pictures; the middle ones before they are run."""
    runs = read_runs(folder)
    tried = {pair: runs[f"rates-{pair[0]:g}"] for pair in RATES if f"rates-{pair[0]:g}" in runs}
    return max(tried, key=lambda pair: mean(tried[pair], "val")) if len(tried) == len(RATES) else RATES[1]


def main() -> None:
    """Run the missing runs, group by group and seed by seed."""
    options = parse()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    names = ("val", "train")
    collections = {name: collect(options.output / name, getattr(options, name), options.void) for name in names}
    scorers: dict[str, Scorer] = {}
    arms = all_arms(*options.batch)
    order = [arm.name for arm in arms]
    for group in options.groups:
        rates = chosen_rates(options.output)
        for seed in range(options.contender_seeds if group == "contenders" else options.seeds):
            wanted = [arm for arm in arms if arm.group == group and arm.name in (options.arms or order)]
            paths = {arm.name: options.output / f"{arm.name}-seed-{seed}.json" for arm in wanted}
            bench = None
            for arm in wanted:
                if paths[arm.name].exists():
                    continue
                scorers = scorers or make_scorers(options, collections)
                bench = bench or Bench(options, collections["train"], seed, rates, scorers)
                paths[arm.name].write_text(json.dumps(bench.run(arm), indent=1) + "\n")
                print(write_report(options.output, order), flush=True)


if __name__ == "__main__":
    main()
