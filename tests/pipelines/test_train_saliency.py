"""The student's job, from a collection's masks to the same collection predicted by the student."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fss.collection import Collection
from fss.collection.acceptance import read_scores, write_acceptance
from fss.collection.config import AcceptanceRule
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import load_student
from fss.saliency import SaliencyConfig
from fss.saliency.config import StudentTrainingConfig
from fss.saliency.pseudomask import pseudomask_part
from fss.saliency.student import data
from fss.tracking.run import tracking_client
from fss.training.student import StudentLoop
from pipelines import pseudomask
from pipelines.masks.config import PseudomaskJobConfig, TrainSaliencyConfig
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.steps import STATE
from pipelines.train_saliency import resolve, run, work_hash


@pytest.fixture(scope="module")
def lesson(paint: Callable[..., str], tmp_path_factory: pytest.TempPathFactory, tracking: TrackingConfig):
    """A collection with classical masks, and the settings of a small student of it."""
    folder = tmp_path_factory.mktemp("student")
    collection = Collection.open(paint(folder / "collection", count=32, part_size=8))
    masks = collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    for part in collection.part_names():
        pseudomask_part(collection.uri, "saliency", part, SaliencyConfig())
    write_acceptance(masks, "default", read_scores(masks, collection.part_names()), AcceptanceRule())
    return TrainSaliencyConfig(
        collection=collection.uri,
        output=str(folder / "students"),
        student=StudentConfig(image_size=64, width=16),
        training=StudentTrainingConfig(rounds=2, epochs=3, warm_up=1, held_out=0.3, batch_size=8, least_gain=-1),
        device="cpu",
        tracking=tracking,
    )


def test_trains_once_and_predicts_the_collection_again(lesson: TrainSaliencyConfig) -> None:
    result = run(lesson)
    file = result.outputs["student"]
    assert result.counts["images"] == 32 and result.counts["rounds"] in (1, 2)
    assert load_student(file).config == replace(lesson.student, seed=0)
    logged = tracking_client(str(lesson.tracking.uri)).get_run(result.run_id).data
    assert logged.metrics["kept/agreement"] == result.metrics["kept.agreement"] == logged.metrics["val/agreement"]
    assert (logged.params["student.seed"], logged.params["training.seed"]) == ("0", "0")
    written = Path(file).stat().st_mtime_ns
    assert not run(lesson).worked and Path(file).stat().st_mtime_ns == written
    settings = PseudomaskJobConfig(
        collection=lesson.collection,
        output_mask_set="refined",
        estimator="student",
        student=file,
        workers=1,
        tracking=lesson.tracking,
    )
    assert pseudomask.run(settings).counts["images"] == 32
    masks = Collection.open(lesson.collection).mask_set("refined")
    rows = [row for part in masks.finished_parts() for row in masks.read_part(part).to_pylist()]
    assert len(rows) == 32 and all(row["error"] is None and row["scores"] for row in rows)
    assert masks.provenance["estimator"] == "student" and file not in str(masks.provenance["config"])


def history(lesson: TrainSaliencyConfig, run_id: str | None, metric: str) -> list[tuple[int, float]]:
    """The logged points of a metric."""
    points = tracking_client(str(lesson.tracking.uri)).get_metric_history(run_id, metric)
    return [(point.step, point.value) for point in points]


@pytest.mark.parametrize("stop", ["failure", "interrupt"])
def test_a_stopped_training_resumes_exactly_and_logs_every_step_once(
    lesson: TrainSaliencyConfig, stop: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, named = run(lesson), replace(lesson, name=f"stopped-by-{stop}")
    backward = StudentLoop.backward
    steps = []

    def stopped(loop: StudentLoop, batch: Any) -> Any:
        steps.append(loop.step)
        if loop.step == 4 and steps.count(4) == 1:
            if stop == "failure":
                raise ConnectionError("the machine is gone")
            signal.raise_signal(signal.SIGINT)
        return backward(loop, batch)

    monkeypatch.setattr(StudentLoop, "backward", stopped)
    with pytest.raises(ConnectionError if stop == "failure" else KeyboardInterrupt):
        run(named)
    assert Path(lesson.output, named.name, STATE).is_file()
    capsys.readouterr()
    resumed = run(named)
    assert "epoch 1," not in capsys.readouterr().out.splitlines()[0]
    repeated = [step for step in set(steps) if steps.count(step) > 1]
    assert repeated == ([4] if stop == "failure" else [])
    assert not Path(lesson.output, named.name, STATE).exists()
    first, second = (load_student(each.outputs["student"]).state_dict() for each in (whole, resumed))
    assert all(torch.equal(second[name], value) for name, value in first.items())
    for metric in ("train/loss", "val/agreement", "train/round"):
        points = history(lesson, resumed.run_id, metric)
        assert len(points) > 2 and len({step for step, _ in points}) == len(points)
        assert points == history(lesson, whole.run_id, metric) or (stop == "interrupt" and metric == "train/loss")


def test_other_settings_need_another_name(lesson: TrainSaliencyConfig) -> None:
    named = replace(lesson, name="mine", training=replace(lesson.training, rounds=1))
    run(named)
    with pytest.raises(ValueError, match=r"training\.epochs was 3, is 2"):
        run(replace(named, training=replace(named.training, epochs=2)))
    assert run(replace(named, training=replace(named.training, epochs=2), overwrite=True)).counts["epochs"] == 2


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"collection": "/nowhere"}, "there is no collection at /nowhere"),
        ({"output": ""}, "--output is required"),
        ({"mask_set": "nowhere"}, "no mask set"),
        ({"acceptance": "nowhere"}, "acceptance"),
        ({"student": StudentConfig(backbone="mobilenet")}, "unknown backbone 'mobilenet'"),
        ({"student": StudentConfig(backbone_weights="nowhere.pth")}, "no weights file"),
        (
            {"student": StudentConfig(backbone_weights=__file__)},
            "--backbone-weights: .*test_train_saliency.py is text",
        ),
    ],
)
def test_mistakes_are_told_before_any_work(
    lesson: TrainSaliencyConfig, mistake: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "load_student_data", lambda *_, **__: pytest.fail("pictures were read"))
    with pytest.raises(ValueError, match=message):
        run(replace(lesson, **{"name": "mistaken"} | mistake))
    assert not Path(lesson.output, "mistaken").exists()


def test_one_seed_for_all_and_seeds_of_their_own(lesson: TrainSaliencyConfig) -> None:
    resolved = resolve(replace(lesson, seed=3, training=replace(lesson.training, seed=5)))
    assert (resolved.student.seed, resolved.training.seed) == (3, 5)


@pytest.mark.parametrize(("weights", "expected"), [(None, "a40e1c24258a3d48"), ("pretrained", "caf31943fa8b2dee")])
def test_a_student_of_version_0_1_counts_as_finished(weights: str | None, expected: str) -> None:
    config = TrainSaliencyConfig(
        student=StudentConfig(backbone_weights=weights, seed=0), training=StudentTrainingConfig(seed=0)
    )
    assert work_hash(config, {"collection": "c", "mask_set": "m"}) == expected
    assert work_hash(replace(config, precision="bf16"), {"collection": "c", "mask_set": "m"}) != expected
