"""The jobs that ``benchmarks/fault_campaign.py`` disturbs, each small, and what must come of them."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from fss.collection import Collection, ingest_local
from fss.collection.acceptance import read_scores, select_rows
from fss.collection.config import AcceptanceRule
from fss.collection.sources import SourceConfig
from fss.core.config import from_dict, to_dict
from fss.models import SegmenterConfig
from fss.models.saliency.network import load_student
from fss.models.semantic.config import SemanticConfig
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from fss.training.semi_supervised.config import (
    LabelledConfig,
    SemanticStreamConfig,
    StageConfig,
    ThreeStageConfig,
    WeakConfig,
)
from pipelines.self_training.config import SelfTrainConfig
from pipelines.training.config import TrainSettings
from pipelines.tuning.config import TuneJobConfig

SMALL = ["--backbone", "timm:test_resnet.r160_in1k", "--image-size", "80", "--width", "32"]
STREAM = ["--batch-size", "4", "--lanes", "2", "--held-out", "0.2"]
STUDENT = {"student": {"image_size": 64, "width": 16}, "training": {"rounds": 2, "epochs": 8, "batch_size": 8}}
REASON = "its process died: killed, or crashed in compiled code"
"""Why a picture that kills its process is put aside."""
STEPS = ["--steps", "24", "--checkpoint-every", "4", "--no-log-model"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of the campaign."""

    name: str
    """The pipeline."""
    words: Callable[[Path], list[str]]
    """Its command line, for a place."""
    prepare: Callable[[Path, Path], None]
    """Bring what it needs from the base to its place."""
    result: Callable[[Path], Any]
    """What it has made, to be compared."""


def jobs(pictures: int, part_size: int) -> dict[str, Job]:
    """The jobs, each small, most of them from the results of the one before."""
    source = ["--source.kind", "sample", "--source.count", str(pictures), "--part-size", str(part_size)]

    def collection(place: Path) -> list[str]:
        return ["--collection", str(place / "c")]

    def copied(base: Path, place: Path) -> None:
        shutil.copytree(base / "c", place / "c", ignore=shutil.ignore_patterns("saliency", "round-1"))

    def masked(base: Path, place: Path) -> None:
        shutil.copytree(base / "c", place / "c", ignore=shutil.ignore_patterns("round-1"))

    def relabel(place: Path) -> list[str]:
        model = str(place.parent / "base" / "models" / "t" / "model")
        return [*collection(place), "--model", model, "--output-mask-set", "round-1", "--workers", "2"]

    def train(place: Path) -> list[str]:
        return [*collection(place), "--output", str(place / "models"), "--name", "t", *SMALL, *STREAM, *STEPS]

    def student(place: Path) -> list[str]:
        (place / "student.json").write_text(json.dumps({"train_saliency": STUDENT}))
        words = ["--output", str(place / "students"), "--name", "s", "--device", "cpu"]
        return [*collection(place), *words, "--config", str(place / "student.json")]

    def sweep(place: Path) -> list[str]:
        (place / "tune.json").write_text(json.dumps({"tune": to_dict(_sweep())}))
        return [*collection(place), "--config", str(place / "tune.json"), "--output", str(place / "sweeps")]

    def stages(place: Path) -> list[str]:
        if not (place / "labelled").is_dir():
            source = SourceConfig(kind="sample", sample="labelled", count=16)
            ingest_local(source, str(place / "labelled"), part_size=4)
        (place / "selftrain.json").write_text(json.dumps({"selftrain": to_dict(_stages())}))
        words = ["--collection", str(place / "labelled"), "--output", str(place / "stages")]
        return [*words, "--config", str(place / "selftrain.json")]

    return {
        job.name: job
        for job in (
            Job(
                name="ingest",
                words=lambda place: [*collection(place), *source, "--workers", "2"],
                prepare=lambda base, place: place.mkdir(exist_ok=True),
                result=images,
            ),
            Job(
                name="pseudomask",
                words=lambda place: [*collection(place), "--workers", "2"],
                prepare=copied,
                result=lambda place: masks(place, "saliency"),
            ),
            Job(name="train", words=train, prepare=masked, result=weights),
            Job(name="relabel", words=relabel, prepare=masked, result=lambda place: masks(place, "round-1")),
            Job(name="train_saliency", words=student, prepare=masked, result=student_weights),
            Job(name="tune", words=sweep, prepare=masked, result=trials),
            Job(
                name="selftrain",
                words=stages,
                prepare=lambda base, place: place.mkdir(exist_ok=True),
                result=stage_weights,
            ),
        )
    }


def images(place: Path) -> list[Any]:
    """Every row of the photographs, in order; all complete and unique."""
    collection = Collection.open(str(place / "c"))
    rows = [row for part in collection.part_names() for row in collection.read_part(part).to_pylist()]
    assert len({row["image_id"] for row in rows}) == len(rows), "an image is there twice"
    return rows


def masks(place: Path, name: str) -> list[Any]:
    """Every row of a mask set, in order, and what is accepted; one for every photograph."""
    collection = Collection.open(str(place / "c"))
    found = collection.mask_set(name)
    assert found.finished_parts() == set(collection.part_names()), "parts are missing"
    rows = [row for part in collection.part_names() for row in found.read_part(part).to_pylist()]
    assert [row["image_id"] for row in rows] == [row["image_id"] for row in images(place)], "rows are missing"
    return [*rows, sorted(found.read_acceptance("default").accepted)]


def compare_without(job: Job, base: Path, place: Path, picture: str) -> str:
    """Return how a job's rows differ from those of the undisturbed run, without a picture that must be put aside.

    Acceptance depends on the scores of all masks, so it is what the rule says of the undisturbed ones without it.
    """
    rows, expected = job.result(place), job.result(base)
    index = [row["image_id"] for row in images(base)].index(picture)
    aside, _ = rows.pop(index), expected.pop(index)
    if REASON not in str(aside["error"]):
        return f"the poisoned picture has the error {aside['error']!r}"
    if job.name == "pseudomask":
        undisturbed = Collection.open(str(base / "c")).mask_set("saliency")
        table = read_scores(undisturbed, sorted(undisturbed.finished_parts()))
        table = table.filter(pc.not_equal(table["image_id"], picture))
        rule = from_dict(AcceptanceRule, undisturbed.read_acceptance("default").rule)
        expected[-1] = sorted(table["image_id"].take(select_rows(table, rule)).to_pylist())
    return "" if rows == expected else "differs from the undisturbed run"


def weights(place: Path) -> bytes:
    """The trained model, byte for byte."""
    return (place / "models" / "t" / "model" / "model.safetensors").read_bytes()


def student_weights(place: Path) -> list[bytes]:
    """The weights of the student, whose file also names the run."""
    student = load_student(place / "students" / "s" / "student.safetensors")
    return [value.numpy().tobytes() for value in student.state_dict().values()]


def trials(place: Path) -> list[Any]:
    """The trials of the sweep, without what differs from run to run, and the best model."""
    home = place / "sweeps" / "w"
    rows = json.loads((home / "trials.json").read_text())["trials"]
    kept = [[row["values"], row["state"], row["curve"]] for row in rows]
    model = json.loads((home / "summary.json").read_text())["outputs"]["model"]
    weights = (Path(model) / "model.safetensors").read_bytes()
    return [sorted(kept, key=json.dumps), hashlib.sha256(weights).hexdigest()]


def stage_weights(place: Path) -> list[Any]:
    """The models and the masks of the three stages."""
    outputs = json.loads((place / "stages" / "s" / "summary.json").read_text())["outputs"]
    models = [Path(outputs[f"stage {number}: model"]) / "model.safetensors" for number in (1, 2, 3)]
    collection = Collection.open(str(place / "labelled"))
    sets = [collection.mask_set(f"stage-{number}") for number in (1, 2, 3)]
    rows = [each.read_part(part).to_pylist() for each in sets for part in collection.part_names()]
    return [[hashlib.sha256(model.read_bytes()).hexdigest() for model in models], rows]


def _sweep() -> TuneJobConfig:
    train = TrainSettings(
        segmenter=SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=80, frozen=True, width=32),
        stream=StreamConfig(batch_size=4, lanes=2, held_out=0.2),
        optimizer=OptimizerConfig(steps=12, learning_rate=1e-3, ema=0.0),
        checkpoint_every=4,
        keep_weights="raw",
    )
    return TuneJobConfig(
        collection="c",
        output="o",
        name="w",
        train=train,
        space=(),
        dimensions=("split.tilt=0..0.5",),
        searcher="random",
        search_seed=4,
        trials=2,
        prune=False,
    )


def _stages() -> SelfTrainConfig:
    stage = StageConfig(steps=6, labelled=2, pool=2)
    training = ThreeStageConfig(first=replace(stage, pool=0), second=stage, third=stage, ema=((0, 0.5),))
    weak = WeakConfig(crop=(64, 64), scales=(0.5, 0.7))
    return SelfTrainConfig(
        collection="c",
        output="o",
        name="s",
        labelled=LabelledConfig(count=4),
        network=SemanticConfig(network="lraspp", backbone="mobilenet_v2", stride=16),
        stream=SemanticStreamConfig(weak=weak, shrink=2, decode_threads=1),
        training=training,
        checkpoint_every=2,
        data_workers=1,
    )
