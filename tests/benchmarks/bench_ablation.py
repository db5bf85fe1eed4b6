"""What each setting of MaskSplit's training adds to the published one, alone and together.

    python -m pipelines.ingest --collection C ... && python -m pipelines.pseudomask --collection C
    python -m pipelines.train_saliency --collection C --output students --name s0 --backbone-weights mobilenet_v2.pth
    python -m pipelines.pseudomask --collection C --output-mask-set refined --estimator student \\
        --student students/s0/student.safetensors
    python -m tests.benchmarks.bench_ablation --collection C --labelled L M --weights mobilenet_v2.pth

``C`` holds photographs with pseudo-masks and acceptances, ``L`` and ``M`` labelled images: those with a class split
"test" are evaluated on it, others on all classes that have enough images. Training uses no labels. Every row is trained
with every seed, and compared with the published training of the same seed on the same episodes. Results are saved after
each training, and a stopped benchmark resumes.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from fss.collection import ClassIndex, Collection, ImageReader
from fss.episodes.config import OFF, AugmentConfig, SplitConfig
from fss.episodes.episode_plan import EpisodePlan, make_plan, split_small_classes
from fss.evaluation.baselines import AllForeground, UntrainedPrototype
from fss.evaluation.episode_images import EpisodeImages
from fss.evaluation.evaluator import evaluate
from fss.evaluation.methods import Method, SegmenterMethod
from fss.evaluation.report import result_rows
from fss.evaluation.semantic import seed_interval
from fss.models import FewShotSegmenter, create_segmenter
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from fss.training.few_shot.loop import TrainLoop
from fss.training.few_shot.mask_split_stream import MaskSplitStream

SHOTS = (1, 5)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Data, network and length of the trainings."""

    collection: str
    """Photographs with pseudo-masks."""
    labelled: tuple[str, ...]
    """Collections of labelled images."""
    output: Path = Path("runs/ablation")
    """Folder of the results."""
    mask_set: str = "saliency"
    """Masks of the classical estimator."""
    student_mask_set: str = "refined"
    """Masks of the student."""
    rows: tuple[str, ...] = ()
    """Names of the rows besides the published training. Empty: all."""
    acceptance: str = "default"
    backbone: str = "mobilenet_v2"
    weights: str | None = None
    size: int = 128
    """Side in pixels of the network's input."""
    width: int = 64
    """Channels of the network's head."""
    steps: int = 320
    """Training steps of 16 episodes."""
    learning_rate: float = 1e-3
    seeds: int = 3
    """Number of trainings of a row, each with another seed."""
    episodes: int = 300
    """Episodes of a plan."""
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What a row changes in the published training."""

    masks: Literal["classical", "student"] = "classical"
    split: SplitConfig = field(default_factory=SplitConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    similarity: bool = False
    ema: float = 0.0
    length: int = 1
    """Multiple of the steps."""


PUBLISHED = "published"
LONG = Variant(masks="student", ema=0.99, length=2)
VARIANTS: dict[str, Variant] = {
    PUBLISHED: Variant(),
    "cut as released": Variant(split=SplitConfig(as_released=True)),
    "cut anywhere within (.3, .7)": Variant(split=SplitConfig(ratio=(0.3, 0.7))),
    "no augmentation": Variant(augment=OFF),
    "the student's masks": Variant(masks="student"),
    "the support's half is to be found too": Variant(split=SplitConfig(ignore_support=False)),
    "distractors from other photographs, .5": Variant(split=SplitConfig(distractor=0.5)),
    "one component per task": Variant(split=SplitConfig(component=True)),
    "smaller, in a collage, .5": Variant(split=SplitConfig(collage=0.5)),
    "similarity channels": Variant(similarity=True),
    "averaged weights, .99": Variant(ema=0.99),
    "twice the steps": Variant(length=2),
    "student, averaged": Variant(masks="student", ema=0.99),
    "all of them": Variant(
        masks="student",
        split=SplitConfig(ignore_support=False, distractor=0.5, component=True, collage=0.5),
        similarity=True,
        ema=0.99,
        length=2,
    ),
    "student, averaged, twice": LONG,
    "student, averaged, twice, the support's half too": replace(LONG, split=SplitConfig(ignore_support=False)),
    "student, averaged, twice, similarity": replace(LONG, similarity=True),
    "student, averaged, twice, the support's half too, similarity": replace(
        LONG, split=SplitConfig(ignore_support=False), similarity=True
    ),
}


def main(options: tyro.conf.OmitArgPrefixes[Options]) -> None:
    """Train and evaluate every row with every seed."""
    if unknown := sorted(set(options.rows) - VARIANTS.keys()):
        raise SystemExit(f"there is no row {', '.join(unknown)}; allowed are {', '.join(VARIANTS)}")
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in VARIANTS if name == PUBLISHED or not options.rows or name in options.rows]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    for seed in range(options.seeds):
        for name in chosen:
            path = options.output / f"{list(VARIANTS).index(name):02}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(measure(options, name, seed)))
            runs[name].append(json.loads(path.read_text()))
            print(f"{name}, seed {seed}: {runs[name][-1]['seconds']:.0f} s, {runs[name][-1]['miou']}", flush=True)
    print("\n".join(table(runs)))


def measure(options: Options, name: str, seed: int) -> dict[str, Any]:
    """Train a row once and evaluate it on every labelled collection."""
    variant, collection = VARIANTS[name], Collection.open(options.collection)
    masks = collection.mask_set(options.mask_set if variant.masks == "classical" else options.student_mask_set)
    stream = MaskSplitStream(
        collection,
        masks,
        image_size=options.size,
        stream=StreamConfig(seed=seed, decode_threads=1),
        split=variant.split,
        augment=variant.augment,
        accepted=masks.read_acceptance(options.acceptance).accepted,
    )
    segmenter = create_segmenter(
        backbone=options.backbone,
        backbone_weights=options.weights,
        image_size=options.size,
        width=options.width,
        similarity=variant.similarity,
        seed=seed,
    )
    config = OptimizerConfig(steps=variant.length * options.steps, learning_rate=options.learning_rate, ema=variant.ema)
    loop, start = TrainLoop(segmenter, stream, config), time.perf_counter()
    losses = [report.loss for report in loop.run()]
    seconds = time.perf_counter() - start
    with loop.ema.applied(segmenter):
        rows = {
            labelled: evaluate_model(options, labelled, segmenter, baselines=seed == 0 and name == PUBLISHED)
            for labelled in options.labelled
        }
    miou = {
        f"{Path(labelled).name}, {row['shots']}": round(100 * row["miou"], 2)
        for labelled, table in rows.items()
        for row in table
        if row["method"] == "model"
    }
    return {"seconds": seconds, "loss": float(np.mean(losses[-20:])), "miou": miou, "rows": rows}


def evaluate_model(
    options: Options, labelled: str, segmenter: FewShotSegmenter, *, baselines: bool
) -> list[dict[str, Any]]:
    """Return the result rows of 1 and 5 shots."""
    collection = Collection.open(labelled)
    truth = collection.mask_set("truth")
    index, pictures = ClassIndex.build(truth), EpisodeImages(ImageReader(collection, truth), options.size)
    method = SegmenterMethod(segmenter, cache_gb=1)
    others: list[Method] = [AllForeground(), UntrainedPrototype(segmenter.backbone, cache_gb=1)] if baselines else []
    results = [
        evaluate([method, *others], plan, pictures, size=options.size) for plan in plans(options, collection, index)
    ]
    return result_rows(results, method.name)


def plans(options: Options, collection: Collection, index: ClassIndex) -> list[EpisodePlan]:
    """Return the plans of 1 and 5 shots, which have the same queries."""
    split = collection.class_splits.get("test")
    classes: Sequence[int] = split or split_small_classes(index, index, max(SHOTS))[0]
    return [make_plan(index, classes=classes, episodes=options.episodes, shots=shots, seed=0) for shots in SHOTS]


def table(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return a Markdown table: the mean mIoU over the seeds, and the mean difference to the published training."""
    columns = list(runs[PUBLISHED][0]["miou"])
    lines = [
        f"| training | {' | | '.join(f'{column} shot' for column in columns)} | |",
        "|---" * (2 * len(columns) + 1) + "|",
    ]
    for name, each in runs.items():
        cells = []
        for column in columns:
            values = [run["miou"][column] for run in each]
            pairs = [value - base["miou"][column] for value, base in zip(values, runs[PUBLISHED], strict=True)]
            cells += [f"{np.mean(values):.1f}", "" if name == PUBLISHED else paired(pairs)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def paired(differences: Sequence[float]) -> str:
    """Return the mean of differences, with its 95 % t interval if there are several."""
    if len(differences) == 1:
        return f"{differences[0]:+.1f}"
    interval = seed_interval(differences)
    return f"{interval.mean:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"


if __name__ == "__main__":
    main(tyro.cli(Options))
