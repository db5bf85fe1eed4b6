"""The evaluation job: models of every origin, benchmarks' folds, and what it leaves behind."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fss.collection import ingest_local
from fss.collection.collection import Collection
from fss.collection.schema import mask_table
from fss.collection.sources import SourceConfig
from fss.images.mask_codec import decode_mask, mask_row
from fss.inference.mlflow_model import log_model
from fss.models import create_segmenter, load_checkpoint, save_checkpoint
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent, save_student
from fss.tracking.lineage import logged_datasets
from fss.tracking.run import Run
from fss.visualize import EpisodeView
from pipelines import evaluate
from pipelines.evaluate import run
from pipelines.evaluation import report
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.runtime.checkpoints import checkpoint_hash
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.model_source import inspect_model, load_model, model_source

TINY = "timm:test_resnet.r160_in1k"
METHODS = 5  # the model and four baselines


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    segmenter = create_segmenter(learner="masksplit", backbone=TINY, image_size=64, frozen=True)
    return save_checkpoint(segmenter, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Discs and squares in FSS-1000's layout; squares and rings are the test classes."""
    home = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:80, :96]
    for name in ("disc", "ring", "square"):
        (home / "fss" / name).mkdir(parents=True)
        for number in range(4):
            centre = rng.integers(35, 50, 2)
            away = (rows - centre[0], columns - centre[1])
            far = np.hypot(*away)
            inside = {"disc": far < 22, "ring": (far > 10) & (far < 24), "square": np.abs(away).max(0) < 20}[name]
            picture = np.where(inside[..., None], (200, 60, 40), (50, 90, 120)) + rng.integers(-20, 20, (80, 96, 3))
            Image.fromarray(picture.astype(np.uint8)).save(home / "fss" / name / f"{number + 1}.jpg")
            Image.fromarray(inside.astype(np.uint8) * 255).save(home / "fss" / name / f"{number + 1}.png")
    (home / "fss" / "splits.json").write_text('{"train": ["disc"], "test": ["ring", "square"]}')
    source = SourceConfig(kind="fss1000", path=str(home / "fss"))
    return ingest_local(source, str(home / "collection"), part_size=6).uri


@pytest.fixture(scope="module")
def config(
    checkpoint: Path, collection: str, tmp_path_factory: pytest.TempPathFactory, tracking: TrackingConfig
) -> EvaluateJobConfig:
    return EvaluateJobConfig(
        model=str(checkpoint),
        collection=collection,
        output=str(tmp_path_factory.mktemp("results")),
        benchmark="fss",
        shots=(1, 2),
        episodes=8,
        visualizations=1,
        workers=0,
        tracking=tracking,
    )


def test_results_of_a_benchmark(config: EvaluateJobConfig) -> None:
    summary = run(config)
    home = Path(config.output)
    table = pq.read_table(home / "episodes.parquet")
    assert table.num_rows == 2 * METHODS * 8
    tested = Collection.open(config.collection).class_splits["test"]
    assert set(table.column("class_id").to_pylist()) == set(tested)
    assert {summary.inputs["1-shot plan"], summary.inputs["2-shot plan"]} == set(table.column("plan").to_pylist())
    assert summary.counts["1-shot backbone passes"] <= 8  # eight test pictures, sixteen shown
    assert summary.counts["1-shot backbone passes"] + summary.counts["2-shot backbone passes"] <= 8
    assert {f"{kind}-{n}shot.png" for kind in ("episodes", "fixed") for n in (1, 2)} < {
        path.name for path in home.iterdir()
    }
    (used,) = logged_datasets(str(config.tracking.uri), str(summary.run_id))
    assert (used.context, used.uri) == ("evaluation", config.collection)
    assert used.profile["plans"]["1-shot plan"] == summary.inputs["1-shot plan"]
    assert "by object: small" in (home / "table.md").read_text()
    assert (home / "table.md").read_text().endswith(f"Verdict: {summary.verdicts['model']['line']}\n")
    assert not run(config).worked


def test_every_model_is_drawn_on_the_same_eight_episodes(
    config: EvaluateJobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Sequence[EpisodeView]] = []

    def sheet(views: Sequence[EpisodeView], **_: object) -> np.ndarray:
        drawn.append(views)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(report, "episode_sheet", sheet)
    for seed in (1, 2):
        save_checkpoint(create_segmenter(backbone=TINY, image_size=64, width=32, seed=seed), tmp_path / f"m{seed}")
        changes = {"model": str(tmp_path / f"m{seed}"), "output": str(tmp_path / f"r{seed}")}
        run(replace(config, **changes, shots=(1,), episodes=20, baselines=False))
    first, second = drawn[1], drawn[3]
    assert len(first) == len(second) == 8
    assert all((a.query == b.query).all() and (a.truth == b.truth).all() for a, b in zip(first, second, strict=True))


def test_the_same_episodes_with_other_labels_are_evaluated_again(config: EvaluateJobConfig, tmp_path: Path) -> None:
    collection = Collection.open(config.collection)
    truth = collection.mask_set("truth")
    inverted = collection.create_mask_set("inverted", config_hash="b" * 16, provenance={"method": "test"})
    for part in collection.part_names():
        rows = [
            mask_row(row["image_id"], 1 - decode_mask(row["mask"]), [each["id"] for each in row["classes"]])
            for row in truth.read_part(part).to_pylist()
        ]
        inverted.write_part(part, mask_table(rows))
    few = replace(config, shots=(1,), episodes=4, presence_episodes=0, output=str(tmp_path))
    first = run(few)
    other = run(replace(few, mask_set="inverted"))
    assert other.worked and other.inputs["key"] == first.inputs["key"]
    everything = "1-shot/all foreground/mIoU"
    assert other.metrics[everything] > first.metrics[everything] + 0.3
    assert not run(replace(few, mask_set="inverted")).worked


def test_the_cost_of_tiles_is_told(config: EvaluateJobConfig, tmp_path: Path) -> None:
    few = replace(config, shots=(1,), episodes=2, visualizations=0, output=str(tmp_path))
    tiles = run(replace(few, scales="tiles"))
    assert tiles.metrics["1-shot/model/passes per query"] == 10
    assert "1-shot model: 10.0 passes per query, with tiles" in (tmp_path / "table.md").read_text()
    assert "density ratio, untrained: 10.0" not in (tmp_path / "table.md").read_text()
    whole = run(replace(few, overwrite=True))
    assert whole.worked and "1-shot/model/passes per query" not in whole.metrics


@pytest.mark.parametrize(
    ("changes", "refines"),
    [
        ({}, True),
        ({"refine": "no"}, False),
        ({"fusion": "vote_published"}, False),
        ({"benchmark": "fss", "protocol": "hsnet"}, False),
        ({"benchmark": "fss", "protocol": "hsnet", "refine": "yes"}, True),
    ],
)
def test_own_evaluations_refine_and_published_protocols_do_not(changes: dict[str, Any], refines: bool) -> None:
    assert EvaluateJobConfig(**changes).refines is refines
    with pytest.raises(ValueError, match=r"fusion mean_probability leaves no joint probability .*--fusion joint"):
        EvaluateJobConfig(fusion="mean_probability", refine="yes")


@pytest.mark.usefixtures("ray_local")
@pytest.mark.slow
def test_the_number_of_workers_does_not_show(config: EvaluateJobConfig, tmp_path: Path) -> None:
    settings = replace(config, original_size=True, baselines=False)
    here, spread = (
        run(replace(settings, output=str(tmp_path / str(workers)), workers=workers)).metrics for workers in (0, 2)
    )
    assert here == pytest.approx(spread, abs=1e-3)


def test_published_protocols_need_a_benchmark(config: EvaluateJobConfig) -> None:
    with pytest.raises(ValueError, match="give --benchmark"):
        run(replace(config, benchmark=None, protocol="hsnet"))
    with pytest.raises(ValueError, match="not both"):
        run(replace(config, classes="test"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmark": "pascal", "min_pixels": 9}, "give --benchmark or --min-pixels, not both"),
        ({"split_folder": "splits"}, "split_folder has the lists of a benchmark"),
        ({"order": "consecutive"}, "order is consecutive, which is for the folds of COCO-20i"),
        ({"benchmark": "pascal", "order": "consecutive"}, "order is consecutive, which is for the folds of COCO-20i"),
        ({"shots": (1, 5, 1)}, "shots are 1, 5, 1; give each number once"),
    ],
)
def test_a_setting_without_an_effect_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluateJobConfig(**changes)


def test_the_draws_follow_the_protocol(config: EvaluateJobConfig) -> None:
    ours = run(replace(config, shots=(1,), dry_run=True)).metrics["1-shot plan"]
    ours_again = run(replace(config, shots=(1,), dry_run=True, image_size=96)).metrics["1-shot plan"]
    other = run(replace(config, shots=(1,), dry_run=True, seed=1)).metrics["1-shot plan"]
    assert ours == ours_again != other


def test_a_published_file_says_nothing_of_itself(tmp_path: Path) -> None:
    segmenter = create_segmenter(learner="hsnet", masking="feature", backbone="resnet50", seed=3)
    state = {f"module.hpn_learner.{k}": v for k, v in segmenter.learner.state_dict().items()}
    weights = {f"module.backbone.{k}": v for k, v in segmenter.backbone.state_dict().items()}
    torch.save(state | weights, tmp_path / "fold0.pt")
    with pytest.raises(ValueError, match="--learner and --masking and --backbone"):
        model_source(str(tmp_path / "fold0.pt"))
    source = model_source(str(tmp_path / "fold0.pt"), learner="hsnet", masking="feature", backbone="resnet50")
    identity, size = inspect_model(source)
    assert size == 400
    assert inspect_model(replace(source, masking="hybrid"))[0] != identity
    loaded = load_model(source).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in segmenter.state_dict().items())


def test_weights_are_opened_before_any_worker_starts(
    config: EvaluateJobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "_evaluate", lambda *_: pytest.fail("the evaluation started"))
    (tmp_path / "page.pt").write_bytes(b"<html>quota exceeded</html>")
    save_checkpoint(create_segmenter(backbone=TINY, width=32), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    torch.save({"model": {"other.weight": torch.ones(3)}}, tmp_path / "other.pt")
    published = {"learner": "masksplit", "masking": "none", "backbone": TINY}
    page, other = str(tmp_path / "page.pt"), str(tmp_path / "other.pt")
    for change, message in [
        ({"model": page, **published}, "page.pt is a web page"),
        ({"model": other, **published}, "other.pt .*do not fit .*unexpected: learner.other.weight"),
        ({"model": other, "backbone_weights": page, **published}, "--backbone-weights: .*page.pt is a web page"),
        ({"model": other, "backbone_weights": "/no.pth", **published}, "there is no weights file /no.pth"),
        ({"model": str(tmp_path / "model")}, "model.safetensors is a git-lfs pointer"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(replace(config, output=str(tmp_path / "out"), **change))
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_says_what_it_is(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave out --learner"):
        model_source(str(checkpoint), learner="hsnet")
    with pytest.raises(ValueError, match="no checkpoint"):
        inspect_model(model_source(str(tmp_path)))


def test_the_learner_without_training_needs_no_model(
    config: EvaluateJobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    student = SaliencyStudent(StudentConfig(image_size=64, width=16))
    save_student(student, "student.safetensors", metadata={})
    segmenter = create_segmenter(learner="density", backbone=TINY, image_size=64, frozen=True, seed=1)
    state = segmenter.backbone.state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, "backbone.safetensors")
    settings = replace(
        config,
        model=None,
        learner="density",
        backbone=TINY,
        backbone_weights="backbone.safetensors",
        saliency_prior="student.safetensors",
        image_size=80,
        shots=(1,),
        output=str(tmp_path / "results"),
    )
    result = run(settings)
    methods = ["model", "all foreground", "saliency of the query", "untrained prototype", "density ratio, untrained"]
    assert [row["method"] for row in json.loads((tmp_path / "results/table.json").read_text())] == methods
    saved = load_checkpoint(result.outputs["model"])
    assert saved.prior is not None and result.inputs["checkpoint"] == str(tmp_path / "results/model")
    again = replace(settings, model=result.outputs["model"], learner=None, backbone=None, backbone_weights=None)
    again = replace(again, saliency_prior=None, output=str(tmp_path / "again"), baselines=False)
    metric = "1-shot/model/mIoU"
    assert run(again).metrics[metric] == pytest.approx(result.metrics[metric], abs=1e-3)
    for change, message in [
        ({"learner": None}, "there is no model; give --model, or --learner density, which needs no training"),
        ({"image_size": 64}, "needs at least 80 pixels; give a larger --image-size"),
        ({"masking": "hybrid"}, "density needs the background of its supports"),
        ({"learner": "hsnet"}, "learner is hsnet, which needs a trained model"),
        ({"model": result.outputs["model"]}, "contains its own settings; leave out --saliency-prior"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(replace(settings, **change))


def test_settings_of_a_learner_without_training_are_its_identity(tmp_path: Path) -> None:
    hashes = set()
    for bandwidth in (20.0, 40.0):
        segmenter = create_segmenter(learner="density", backbone=TINY, density={"bandwidth": bandwidth}, frozen=True)
        hashes.add(checkpoint_hash(save_checkpoint(segmenter, tmp_path / str(bandwidth))))
    assert len(hashes) == 2


def test_a_logged_model_is_the_checkpoint(checkpoint: Path, tracking: TrackingConfig) -> None:
    run_record = Run.start("logging", uri=tracking.uri)
    uri = log_model(run_record, checkpoint)
    source = model_source(uri, tracking=tracking.uri)
    assert inspect_model(source) == inspect_model(model_source(str(checkpoint)))
    wanted = load_checkpoint(checkpoint).state_dict()
    found = load_model(source).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
    with pytest.raises(ValueError, match="no model"):
        inspect_model(replace(source, uri="models:/m-0123"))
