"""Benchmarks of self-training rounds on photographs: quality of every round, and speed of relabelling.

    python -m tests.benchmarks.bench_rounds rounds --output runs/bench-rounds
    python -m tests.benchmarks.bench_rounds rounds --images 60 --audit 40 --seeds 1 --steps 20 --episodes 20   # quick
    python -m tests.benchmarks.bench_rounds throughput --images 256

FSS_SHARED_DATA (or ``--data``) holds unlabelled/*.jpg, fewshot/<class>/<n>.jpg and .png with splits.json, and weights/.
``rounds`` collects the unlabelled photographs and those of the train and val classes, whose truth only the audit reads,
and runs the main job with rounds for every seed. It reports the IoU of every mask set with the truth and the few-shot
mIoU on the test classes after every training, with intervals and paired differences. Photographs of the test classes
are never trained on, not even without their labels. ``throughput`` relabels photographs with an untrained head. It
reports images per second of the job and the share of the processes' time outside the network. A stopped benchmark
resumes.
"""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import tyro

from fss.collection import Collection, ingest_local
from fss.collection.collection_file import collection_exists
from fss.collection.schema import image_table, make_image_id, mask_table, part_name
from fss.collection.sources import SourceConfig
from fss.evaluation.metrics import Counts, Interval, compute_metrics, paired_differences
from fss.images.decode import inspect_image
from fss.images.mask_codec import mask_row
from fss.models import SegmenterConfig, create_segmenter, save_checkpoint
from fss.relabel import RelabelConfig
from fss.relabel.audit import audit, gain, mean_iou
from fss.relabel.config import RoundGateConfig
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from pipelines.end_to_end.config import MaskSplitJobConfig, own_masks
from pipelines.evaluation.config import EvaluateSettings
from pipelines.masks.config import PseudomaskJobConfig, PseudomaskSettings
from pipelines.masksplit import run as masksplit
from pipelines.pseudomask import run as pseudomask
from pipelines.relabel import run as relabel
from pipelines.relabeling.config import RelabelJobConfig, RelabelSettings
from pipelines.runtime.config import TrackingConfig
from pipelines.training.config import TrainSettings
from tests.benchmarks.bench_saliency import read_truth

OPEN_GATE = RoundGateConfig(min_agreement=0, min_valid=0, max_area_shift=1, max_changed=1, min_changed=0)
"""A gate that every round passes, so that every round is measured."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of both benchmarks."""

    data: Path = Path(os.environ.get("FSS_SHARED_DATA", "../shared/data"))
    """Folder of the photographs."""
    output: Path = Path("runs/bench-rounds")
    """Folder of collections, trainings and results."""
    images: int = 1200
    """Number of unlabelled photographs."""
    backbone: str = "mobilenet_v2"
    """Frozen backbone, with the ImageNet weights in weights/<backbone>_imagenet.pth."""
    size: int = 192
    """Side in pixels of the network's input."""
    relabel: RelabelConfig = field(default_factory=lambda: own_masks().relabel)
    """Settings of the relabelling."""
    workers: int = 2
    """Number of processes."""

    def weights(self) -> str:
        """Return the path of the backbone's weights."""
        return str((self.data / f"weights/{self.backbone}_imagenet.pth").absolute())

    def tracking(self) -> TrackingConfig:
        """Return the MLflow store of the benchmark."""
        return TrackingConfig(uri=f"sqlite:///{self.output.absolute()}/mlflow.db")


@dataclass(frozen=True, kw_only=True)
class Rounds(Options):
    """Additional options of ``rounds``."""

    audit: int = 640
    """Number of photographs of the train and val classes, whose truth only the audit reads."""
    rounds: int = 2
    """Number of rounds."""
    seeds: int = 3
    """Number of seeds."""
    steps: int = 320
    """Training steps of 16 episodes."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    width: int = 128
    """Channels of the network's head."""
    episodes: int = 400
    """Evaluation episodes per plan."""
    quantile: float = 0.65
    """Share of the masks that every training uses."""


def main() -> None:
    """Run from the command line."""
    tyro.extras.subcommand_cli_from_dict({"rounds": measure_rounds, "throughput": measure_throughput})


def measure_rounds(options: tyro.conf.OmitArgPrefixes[Rounds]) -> None:
    """Measure the masks and models of every round against the truth."""
    options.output.mkdir(parents=True, exist_ok=True)
    base, labelled = collect(options, options.audit), test_classes(options)
    pseudomask(PseudomaskJobConfig(collection=base.uri, accept_quantile=options.quantile, tracking=options.tracking()))
    names = ["saliency", *(f"round-{number + 1}" for number in range(options.rounds))]
    lines: list[str] = []
    models: dict[int, Results] = {}
    for seed in range(options.seeds):
        collection = copy(base, options.output / f"photographs-{seed}")
        summary = masksplit(job(options, collection, labelled, seed))
        truth, parts = collection.mask_set("truth"), collection.part_names()
        written = [name for name in names if name in collection.mask_set_names()]
        counts = [audit(collection.mask_set(name), truth, parts) for name in written]
        for number, name in enumerate(written):
            lines.append(f"seed {seed}: {name}: IoU {text(mean_iou(counts[number]))} of {len(counts[number])} images")
            if number:
                lines.append(f"    minus the previous set {text(gain(counts[number], counts[number - 1]), sign=True)}")
        models[seed] = read_results(summary.outputs, names)
        lines += [
            f"seed {seed}: {name}: {decision}"
            for name in names
            if (decision := summary.outputs.get(f"{name}: decision"))
        ]
        lines += [line for name in names for line in compare(models[seed], name, names[0], f"seed {seed}")]
        (options.output / "metrics.md").write_text("\n".join(lines) + "\n")
    lines += [across(models, name, names[0], shots) for name in names for shots in (1, 5)]
    (options.output / "metrics.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def measure_throughput(options: tyro.conf.OmitArgPrefixes[Options]) -> None:
    """Measure the images per second of the relabelling job."""
    options.output.mkdir(parents=True, exist_ok=True)
    collection = collect(options, 0)
    masks = collection.create_mask_set("saliency", config_hash="0" * 16, provenance={"method": "discs"})
    for part in collection.part_names():
        rows = collection.read_part(part, ["image_id", "height", "width"]).to_pylist()
        masks.write_part(part, mask_table([disc(**row) for row in rows]))
    network = create_segmenter(backbone=options.backbone, backbone_weights=options.weights(), image_size=options.size)
    checkpoint = save_checkpoint(network, options.output / "untrained")
    summary = relabel(
        RelabelJobConfig(
            collection=collection.uri,
            model=str(checkpoint),
            acceptance=None,
            relabel=options.relabel,
            workers=options.workers,
            tracking=options.tracking(),
            overwrite=True,
        )
    )
    speed = {name: summary.metrics[name] for name in ("images per second", "share outside the network")}
    print(json.dumps({"images": options.images, "processes": options.workers, **speed, **summary.durations}, indent=1))


def collect(options: Options, audited: int) -> Collection:
    """Collect the photographs; ``audited`` of them have a truth."""
    folder = options.output / f"photographs-{options.images}-{audited}"
    if collection_exists(str(folder)):
        return Collection.open(str(folder))
    files = sorted((options.data / "unlabelled").glob("*.jpg"))[: options.images]
    splits = json.loads((options.data / "fewshot/splits.json").read_text())
    classes = sorted([*splits["train"], *splits["val"]])
    files += [options.data / f"fewshot/{name}/{number}.jpg" for number in range(1, 11) for name in classes][:audited]
    forbidden = {
        path.read_bytes() for name in splits["test"] for path in (options.data / f"fewshot/{name}").glob("*.jpg")
    }
    files = [path for path in files if path.is_file() and path.read_bytes() not in forbidden]
    if not files:
        raise SystemExit(f"no photographs in {options.data}; give --data, or set FSS_SHARED_DATA")
    half = folder.with_name(folder.name + ".part")
    shutil.rmtree(half, ignore_errors=True)
    collection = Collection.create(str(half), name="rounds", source="benchmark", part_size=32)
    truth = collection.create_mask_set("truth", config_hash="0" * 16, provenance={"method": "truth"})
    for number, first in enumerate(range(0, len(files), 32)):
        images, masks = [], []
        for path in files[first : first + 32]:
            data, name = path.read_bytes(), str(path.relative_to(options.data))
            height, width, _ = inspect_image(data)
            image_id = make_image_id(data, name)
            images.append({"image_id": image_id, "uri": name, "image": data, "height": height, "width": width})
            masks.append(true_row(image_id, path.with_suffix(".png")))
        collection.write_part(part_name(number), image_table(images))
        truth.write_part(part_name(number), mask_table(masks))
    half.rename(folder)
    return Collection.open(str(folder))


def true_row(identity: str, path: Path) -> dict[str, object]:
    """Return the row of the truth from a mask file, or a row with an error if there is none."""
    if not path.is_file():
        return mask_row(identity, None, error="no truth: an unlabelled photograph")
    mask = read_truth(path).astype(np.uint8)
    return mask_row(identity, mask, [1] if mask.any() else [])


def disc(image_id: str, height: int, width: int) -> dict[str, object]:
    """Return a mask row with a disc in the middle, which stands for a pseudo-mask."""
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (width // 2, height // 2), min(height, width) // 4, 1, -1)
    return mask_row(image_id, mask, [1])


def test_classes(options: Rounds) -> Collection:
    """Return the labelled collection that models are evaluated on."""
    source = SourceConfig(kind="fss1000", path=str((options.data / "fewshot").absolute()))
    return ingest_local(source, str(options.output / "fewshot"))


def copy(base: Collection, path: Path) -> Collection:
    """Copy the collection with its pseudo-masks for a seed."""
    if not collection_exists(str(path)):
        half = path.with_name(path.name + ".part")
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(base.uri, half)
        half.rename(path)
    return Collection.open(str(path))


def job(options: Rounds, collection: Collection, labelled: Collection, seed: int) -> MaskSplitJobConfig:
    """Return the configuration of the main job for one seed."""
    return MaskSplitJobConfig(
        photographs=collection.uri,
        evaluation=labelled.uri,
        output=str(options.output / f"work-{seed}"),
        pseudomask=PseudomaskSettings(accept_quantile=options.quantile),
        train=TrainSettings(
            segmenter=SegmenterConfig(
                backbone=options.backbone,
                backbone_weights=options.weights(),
                image_size=options.size,
                width=options.width,
            ),
            stream=StreamConfig(batch_size=16),
            optimizer=OptimizerConfig(steps=options.steps, learning_rate=options.learning_rate),
            checkpoint_every=1000,
        ),
        evaluate=EvaluateSettings(episodes=options.episodes),
        rounds=options.rounds,
        relabel=RelabelSettings(relabel=options.relabel, round_gate=OPEN_GATE, accept_quantile=options.quantile),
        seed=seed,
        data_workers=options.workers,
        tracking=options.tracking(),
    )


Results = dict[tuple[str, int], tuple[list[int], Counts]]
"""Class and pixel counts of every episode, by mask set and number of shots."""


def read_results(outputs: dict[str, str], names: list[str]) -> Results:
    """Read the pixel counts of every model of a seed on every episode."""
    results = {}
    for name in names:
        folder = outputs.get("results" if name == "saliency" else f"{name}: results")
        if folder is None:  # no mask of the round passed the gates, so nothing was trained
            continue
        table = pq.read_table(f"{folder}/episodes.parquet").to_pylist()
        for shots in (1, 5):
            rows = [row for row in table if row["method"] == "model" and row["shots"] == shots]
            kinds = [[row[f"{kind}_{of}"] for of in ("background", "foreground")] for row in rows for kind in KINDS]
            results[name, shots] = [row["class_id"] for row in rows], np.array(kinds, np.int64).reshape(-1, 2, 2)
    return results


KINDS = ("intersection", "union")


def compare(results: Results, name: str, first: str, prefix: str) -> list[str]:
    """Return lines about the model trained on one mask set."""
    lines = []
    for shots in (shots for shots in (1, 5) if (name, shots) in results):
        classes, counts = results[name, shots]
        line = f"{prefix}: trained on {name}, {shots}-shot mIoU {text(compute_metrics(classes, counts).miou)}"
        if name != first:
            ahead = paired_differences(classes, counts, results[first, shots][1])["miou"]
            line += f", minus {first} {text(ahead, sign=True)}"
        lines.append(line)
    return lines


def across(models: dict[int, Results], name: str, first: str, shots: int) -> str:
    """Return mean and standard deviation over the seeds that trained on a mask set."""
    models = {seed: results for seed, results in models.items() if (name, shots) in results}
    if not models:
        return f"no seed was trained on {name}"
    values = {
        key: np.array([compute_metrics(*results[key, shots]).miou.value for results in models.values()])
        for key in (name, first)
    }
    change = values[name] - values[first]
    spread = [values[name].std(ddof=1), change.std(ddof=1)] if len(models) > 1 else [np.nan, np.nan]
    line = f"{len(models)} seeds: trained on {name}, {shots}-shot mIoU {values[name].mean():.3f} (sd {spread[0]:.3f})"
    return line if name == first else f"{line}, minus {first} {change.mean():+.3f} (sd {spread[1]:.3f})"


def text(interval: Interval, *, sign: bool = False) -> str:
    """Format a metric with its interval."""
    form = "+.3f" if sign else ".3f"
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


if __name__ == "__main__":
    main()
