"""The main job, end to end at toy size."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from fss.collection import Collection
from fss.collection.schema import mask_table
from fss.episodes.config import SplitConfig
from fss.images.mask_codec import mask_row
from fss.models.backbones.factory import create_backbone
from fss.models.config import SegmenterConfig
from fss.models.learners.masksplit import MaskSplit
from fss.training.few_shot import defaults
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from pipelines import masksplit
from pipelines.end_to_end.config import MaskSplitJobConfig
from pipelines.end_to_end.presets import PRESETS, default_preset, sample
from pipelines.evaluation.config import EvaluateSettings
from pipelines.masksplit import run
from pipelines.runtime.command_line import read_config
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.result import JobResult

pytestmark = pytest.mark.usefixtures("ray_local")
Paint = Callable[..., str]


@pytest.fixture(scope="module")
def folder(paint: Paint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs, a broken file among them."""
    home = tmp_path_factory.mktemp("photographs")
    collection = Collection.open(paint(home / "painted", count=24))
    folder = home / "folder"
    folder.mkdir()
    for part in collection.part_names():
        for row in collection.read_part(part, ["image_id", "image"]).to_pylist():
            Image.open(io.BytesIO(row["image"])).save(folder / f"{row['image_id']}.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff but not a picture")
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled folder in the FSS-1000 layout: discs and squares."""
    home = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:90, :100]
    for name in ("disc", "square"):
        (home / name).mkdir()
        for number in range(4):
            centre = rng.integers(35, 55, 2)
            away = (rows - centre[0], columns - centre[1])
            inside = np.hypot(*away) < 22 if name == "disc" else np.abs(away).max(0) < 20
            picture = np.where(inside[..., None], (200, 60, 40), (50, 90, 120)) + rng.integers(-20, 20, (90, 100, 3))
            Image.fromarray(picture.astype(np.uint8)).save(home / name / f"{number + 1}.jpg")
            Image.fromarray(inside.astype(np.uint8) * 255).save(home / name / f"{number + 1}.png")
    return home


@pytest.fixture(scope="module")
def config(
    folder: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory, tracking: TrackingConfig
) -> MaskSplitJobConfig:
    preset = sample()
    train = replace(
        preset.train,
        segmenter=SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=80),
        stream=StreamConfig(batch_size=8, lanes=4, held_out=0.1),
        split=SplitConfig(distractor=0.25),
        optimizer=OptimizerConfig(steps=2, learning_rate=1e-3),
    )
    return replace(
        preset,
        photographs=str(folder),
        evaluation=str(labelled),
        output=str(tmp_path_factory.mktemp("work")),
        train=train,
        evaluate=EvaluateSettings(episodes=6, shots=(1, 2)),
        tracking=tracking,
    )


def test_photographs_in_table_out_and_a_second_run_does_no_work(
    config: MaskSplitJobConfig, tracking: TrackingConfig
) -> None:
    from mlflow import MlflowClient

    summary = run(config)
    assert summary.counts["photographs: usable"] == 24
    assert summary.counts["photographs: quarantined"] == 1
    assert summary.counts["accepted pseudo-masks"] > 8
    assert summary.counts["evaluation episodes"] == 12
    assert 0 <= summary.metrics["1-shot/model/mIoU"] <= 1
    assert "saliency of the query" in summary.report
    verdict = summary.verdicts["model"]
    assert verdict["ahead_of_all"] == (not verdict["not_ahead_of"]) and " Next: " in verdict["line"]
    assert (Path(config.output) / "summary.json").is_file()

    client = MlflowClient(tracking_uri=tracking.uri)
    run_id = str(summary.run_id)
    experiment = client.get_run(run_id).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    jobs = [child.data.tags["fss.job"] for child in children]
    assert sorted(jobs) == ["evaluate", "ingest", "ingest", "pseudomask", "train"]
    names = [child.info.run_name for child in children]
    assert all(name.startswith(f"{job} ") for name, job in zip(names, jobs, strict=True)) and len(set(names)) == 5
    assert {child.info.status for child in children} == {"FINISHED"}
    assert_children_used_what_the_parent_says(client, run_id, children)

    before = {path: path.stat().st_mtime_ns for path in Path(config.output).rglob("*")}
    again = run(config)
    assert not again.worked
    assert again.metrics == summary.metrics
    assert {path: path.stat().st_mtime_ns for path in Path(config.output).rglob("*")} == before


def assert_children_used_what_the_parent_says(client: Any, run_id: str, children: list[Any]) -> None:
    """The parent's parameters of its stages are those of the child runs, one by one."""
    parent = client.get_run(run_id).data.params
    params = {child.data.tags["fss.job"]: child.data.params for child in children}
    for job in ("train", "pseudomask", "evaluate"):
        nested = {name.removeprefix(f"{job}."): value for name, value in parent.items() if name.startswith(f"{job}.")}
        assert nested
        assert {name: params[job][name] for name in nested} == nested
    assert parent["train.split.distractor"] == "0.25"
    assert parent["train.segmenter.seed"] == parent["train.stream.seed"] == "0"
    assert parent["train.scale.device"] == "cpu"


def test_dry_run_shows_the_resolved_settings_and_does_nothing(config: MaskSplitJobConfig, tmp_path: Path) -> None:
    output = tmp_path / "work"
    cache = replace(config.train.stream, cache_folder=Path("canvases"))
    train = replace(config.train, stream=cache)
    result = run(replace(config, dry_run=True, seed=3, output=str(output), train=train))
    assert result.inputs["--cache-folder"] == str(Path("canvases").absolute())
    assert result.inputs["--steps"] == 2
    assert result.inputs["--init-seed"] == result.inputs["--episode-seed"] == 3
    assert result.inputs["--device"] == "cpu"
    assert None not in {result.inputs[f"--augment.{name}"] for name in ("hue", "blur", "grey")}
    plan = result.metrics
    assert list(plan) == ["photographs", "pseudo-masks", "training", "evaluation", "output folder"]
    assert plan["training"].startswith("2 steps of ") and " on cpu: about " in plan["training"]
    assert plan["evaluation"].endswith(" beside the baselines") and plan["output folder"] == str(output)
    assert not output.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--photographs /nowhere --backbone-weights None", "/nowhere"),
        ("--evaluation /nowhere", "/nowhere"),
        ("--limit 0", "limit must be greater than or equal to 1, got 0"),
        ("--backbone mobilenet", "unknown backbone 'mobilenet'"),
        ("--backbone-weights /no.pth", "there is no weights file /no.pth"),
        ("--estimator student --student /no-student", "no student at /no-student"),
        ("--estimator vit --vit.weights /no.pth", "there is no weights file /no.pth"),
        ("--image-size 64", "image-size is 64, but masksplit on timm:test_resnet.r160_in1k needs at least 80 pixels"),
        ("--episodes classes", "pseudo-masks have no classes"),
        ("--workers 9", "9 workers cannot share 8 lanes"),
        ("--device cuda", "there are 0 GPUs"),
        ("--evaluate.image-size 8", "image-size is 8, but masksplit"),
        ("--evaluate.image-size 8", "give a larger --evaluate.image-size"),
        ("--training-size 64", "needs at least 80 pixels; give a larger --training-size"),
        ("--evaluate.classes unseen", "no such class split; its splits are base, novel"),
        ("--split.distractor 2", "distractor must be less than or equal to 1, got 2.0"),
    ],
)
def test_mistakes_are_refused_before_any_work(words: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as refusal:
        run(read([*words.split(), "--output", str(tmp_path / "work")]))
    text = str(refusal.value)
    assert message in text
    assert not (tmp_path / "work").exists()


def test_too_few_pictures_for_the_shots_are_refused_before_the_training(
    paint: Paint, config: MaskSplitJobConfig, tmp_path: Path
) -> None:
    labelled = paint(tmp_path / "labelled", count=24, labelled=True)
    evaluate = EvaluateSettings(episodes=6, shots=(1, 400))
    with pytest.raises(ValueError, match="400 shots need 401 images"):
        run(replace(config, evaluation=labelled, evaluate=evaluate, output=str(tmp_path / "work")))
    assert not (tmp_path / "work").exists()


def read(words: list[str]) -> MaskSplitJobConfig:
    return read_config(MaskSplitJobConfig, words, job="masksplit", presets=PRESETS, default_preset=default_preset)


def test_the_preset_follows_the_input_and_may_be_named(tmp_path: Path) -> None:
    assert read([]) == sample()
    (tmp_path / "settings.json").write_text('{"photographs": "p", "rounds": 1}')
    assert read(["--config", str(tmp_path / "settings.json")]) == read(["--photographs", "p", "--rounds", "1"])
    assert read(["--photographs", "p"]).train.segmenter.backbone_weights == "pretrained"
    named = read(["--photographs", "p", "--preset", "paper"])
    segmenter = named.train.segmenter
    assert (segmenter.backbone, segmenter.image_size, segmenter.width) == ("resnet50", 400, 128)
    assert (named.train.optimizer.steps, named.train.optimizer.learning_rate) == (20_000, 1e-4)
    with pytest.raises(ValueError, match="there is no preset 'fast'; the presets are sample, photographs, paper"):
        read(["--preset", "fast"])


def test_without_a_gpu_the_preset_for_photographs_is_light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "gpu_count", lambda: 0)
    monkeypatch.setattr(defaults, "available_cores", lambda: 2)
    light = PRESETS["photographs"]().train
    assert PRESETS["photographs"]().saliency_training.student.backbone_weights is None  # those of the segmenter
    assert (light.segmenter.backbone, light.training_size, light.segmenter.image_size) == ("mobilenet_v2", 192, 384)
    assert (light.optimizer.steps, light.segmenter.width) == (2 * defaults.STEPS_PER_CORE, 64)
    assert light.optimizer.learning_rate == 1e-3
    monkeypatch.setattr(defaults, "gpu_count", lambda: 1)
    heavy, paper = PRESETS["photographs"](), PRESETS["paper"]()
    assert heavy.train == paper.train and heavy.saliency_student == "auto"
    assert heavy.saliency_training.student.backbone_weights == "pretrained"  # the segmenter has another backbone


def test_photographs_repeat_no_evaluation_picture(
    config: MaskSplitJobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingests: list[Any] = []

    def ingest(settings: Any, parent: object) -> object:
        ingests.append(settings)
        if settings.drop_duplicates:
            raise NotImplementedError
        return JobResult(job="ingest", counts={"usable": 8, "quarantined": 0})

    monkeypatch.setattr("pipelines.ingest.run", ingest)
    with pytest.raises(NotImplementedError):
        run(replace(config, output=str(tmp_path / "work"), drop_duplicates=True))
    first, second = ingests
    assert second.distinct_from == (first.collection,) and second.source.path == config.photographs
    made = Collection.create(str(tmp_path / "c"), name="c", source="test")
    with pytest.raises(ValueError, match="fss collection duplicates"):
        run(replace(config, photographs=made.uri, drop_duplicates=True))
    with pytest.raises(ValueError, match="limit is 3, which is for photographs that are ingested, but"):
        run(replace(config, photographs=made.uri, limit=3))


def test_a_finished_job_has_read_the_files_that_are_there_now(
    paint: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_files: list[dict[str, str]] = []

    def job(*_: object, contents: dict[str, str], **__: object) -> None:
        read_files.append(contents)
        raise NotImplementedError

    monkeypatch.setattr(masksplit, "Job", job)
    collection, weights = Collection.open(paint(tmp_path / "c", count=4, labelled=True)), tmp_path / "w.safetensors"
    network = SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=80, backbone_weights=str(weights))
    config = MaskSplitJobConfig(photographs=collection.uri, train=replace(sample().train, segmenter=network))
    config = replace(config, relabel=replace(config.relabel, truth_mask_set="truth"), output=str(tmp_path / "work"))

    def contents_with(seed: int) -> dict[str, str]:
        save_file(create_backbone(network.backbone, MaskSplit.selection, seed=seed).state_dict(), weights)
        with pytest.raises(NotImplementedError):
            run(config)
        return read_files[-1]

    first, other = contents_with(1), contents_with(2)
    assert contents_with(1) == first and first.keys() == {"weights", "photographs"}
    assert other["weights"] != first["weights"] and other["photographs"] == first["photographs"]
    truth, (part,) = collection.mask_set("truth"), collection.part_names()
    empty = [mask_row(name, np.zeros((8, 8), np.uint8), []) for name in collection.image_ids()[part]]
    truth.write_part(part, mask_table(empty))
    corrected = contents_with(1)
    assert corrected["photographs"] != first["photographs"] and corrected["weights"] == first["weights"]
