"""The training job on real Ray Train: killed and resumed, run twice, with other settings, evaluated.

A Ray Train run costs most of its time in starting, so the tests of this file share one. The one that is killed, and
goes on with one worker instead of two, is in the slow suite.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.train import Checkpoint, UserCallback

from fss.models import SegmenterConfig, load_checkpoint
from fss.models.checkpoint import read_description
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from pipelines import evaluate, train
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.runtime.config import ScaleConfig, TrackingConfig
from pipelines.runtime.result import JobResult
from pipelines.training.config import TrainJobConfig

STEPS, EVERY = 6, 2
Paint = Callable[..., str]
Kill = Callable[[TrainJobConfig, Path], Path]


@pytest.fixture(scope="module")
def config(paint: Paint, tmp_path_factory: pytest.TempPathFactory, tracking: TrackingConfig) -> TrainJobConfig:
    home = tmp_path_factory.mktemp("train")
    return TrainJobConfig(
        # The labelled pictures' truth is a mask set like any other.
        collection=paint(home / "collection", count=24, labelled=True),
        output=str(home / "models"),
        mask_set="truth",
        acceptance=None,
        # Frozen: BatchNorm that drifts sees other batches on two workers than on one.
        segmenter=SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=80, frozen=True),
        stream=StreamConfig(batch_size=4, lanes=2, held_out=0.1),
        optimizer=OptimizerConfig(steps=STEPS, learning_rate=1e-3),
        checkpoint_every=EVERY,
        log_every=1,
        tracking=tracking,
    )


@pytest.fixture(scope="module")
def uninterrupted(ray_local: None, config: TrainJobConfig) -> JobResult:
    cut = replace(config.optimizer, accumulate=2)  # each worker's two episodes in two passes
    return train.run(replace(config, name="uninterrupted", optimizer=cut, scale=ScaleConfig(workers=2)))


def curve(summary: JobResult, tracking: TrackingConfig, name: str = "train/loss") -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    history = MlflowClient(tracking_uri=tracking.uri).get_metric_history(str(summary.run_id), name)
    return sorted((point.step, point.value) for point in history)


def test_leaves_a_model_a_curve_and_figures(uninterrupted: JobResult, tracking: TrackingConfig) -> None:
    from mlflow import MlflowClient

    segmenter = load_checkpoint(uninterrupted.outputs["model"])
    assert segmenter.config.image_size == 80
    description = read_description(uninterrupted.outputs["model"])
    record = dict(description["training_data"])
    assert len(record.pop("fingerprint")) == 16
    assert record == {"painted": True, "images": uninterrupted.counts["train"]}
    described = description["training"]
    assert described["run_id"] == uninterrupted.run_id
    assert described["step"] == uninterrupted.counts["kept step"]
    assert [step for step, _ in curve(uninterrupted, tracking)] == list(range(1, STEPS + 1))
    assert len(curve(uninterrupted, tracking, "kept/held_out_iou")) == 1
    client = MlflowClient(tracking_uri=tracking.uri)
    sheets = [file.path for file in client.list_artifacts(str(uninterrupted.run_id), "held_out")]
    assert sheets == [f"held_out/step-{step:07d}.png" for step in range(EVERY, STEPS + 1, EVERY)]
    assert client.get_run(str(uninterrupted.run_id)).info.status == "FINISHED"


def test_the_logged_model_is_the_one_kept(uninterrupted: JobResult, tracking: TrackingConfig) -> None:
    import mlflow
    import pandas as pd

    from fss.inference.mlflow_model import example_request, segment_request
    from fss.inference.predictor import load_segmenter

    mlflow.set_tracking_uri(tracking.uri)
    model = mlflow.pyfunc.load_model(uninterrupted.outputs["served model"])
    served = model.predict(pd.DataFrame(example_request()))
    request = {column: values[0] for column, values in example_request().items()}
    assert served["mask"][0] == segment_request(load_segmenter(uninterrupted.outputs["model"]), request)


def test_a_second_run_does_no_work(uninterrupted: JobResult, config: TrainJobConfig) -> None:
    again = train.run(replace(config, name="uninterrupted"))  # the number of workers is no setting of the result
    assert not again.worked
    assert again.metrics == uninterrupted.metrics


def test_other_settings_under_the_same_name_are_refused(uninterrupted: JobResult, config: TrainJobConfig) -> None:
    other = replace(config, name="uninterrupted", optimizer=OptimizerConfig(steps=STEPS, learning_rate=5e-4))
    with pytest.raises(ValueError, match=r"optimizer.learning_rate was 0.001, is 0.0005.*--overwrite"):
        train.run(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": ScaleConfig(workers=3)}, "3 workers cannot share 2 lanes; use 1 to 2 workers"),
        ({"mask_set": "saliency"}, "no mask set 'saliency'"),
        (
            {"segmenter": SegmenterConfig(backbone_weights="/no.pth")},
            "--backbone-weights: there is no weights file /no.pth; give the path",
        ),
        ({"segmenter": SegmenterConfig(image_size=79)}, "needs at least 80 pixels; give a larger --image-size"),
        ({"stream": StreamConfig(training_size=79)}, "needs at least 80 pixels; give a larger --training-size"),
        ({"segmenter": SegmenterConfig(backbone="mobilenet")}, "unknown backbone 'mobilenet'"),
        ({"collection": ""}, "--collection is required"),
        ({"collection": "/nowhere"}, "there is no collection at /nowhere; make one with: python -m pipelines.ingest"),
        ({"scale": ScaleConfig(device="cuda")}, "there are 0 GPUs; give --device cpu"),
    ],
)
def test_mistakes_are_refused_before_any_work(config: TrainJobConfig, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        train.run(replace(config, output=f"{config.output}-mistakes", **change))
    assert not Path(f"{config.output}-mistakes").exists()


class Reports(UserCallback):
    """Writes the steps of all reports into a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Add a step."""
        with self.file.open("a") as file:
            file.write(f"{metrics[0]['step']}\n")


def assert_same_curve(summary: JobResult, uninterrupted: JobResult, tracking: TrackingConfig) -> None:
    got, wanted = curve(summary, tracking), curve(uninterrupted, tracking)
    assert [step for step, _ in got] == list(range(1, STEPS + 1)), "a step is missing or was logged twice"
    assert [value for _, value in got] == pytest.approx([value for _, value in wanted], rel=1e-4)


@pytest.mark.slow
def test_killed_and_resumed_on_one_worker_it_trains_like_two_uninterrupted(
    uninterrupted: JobResult,
    config: TrainJobConfig,
    tracking: TrackingConfig,
    kill_after_a_checkpoint: Kill,
    tmp_path: Path,
) -> None:
    resumed = replace(config, name="resumed", loader="ray")
    snapshots = kill_after_a_checkpoint(resumed, tmp_path)
    registered = snapshots / "checkpoint_manager_snapshot.json"  # Ray's own list, without which it starts again
    first = (
        json.loads(registered.read_text())["latest_checkpoint_result"]["metrics"]["step"]
        if registered.exists()
        else EVERY
    )
    summary = train.run(resumed, callbacks=[Reports(tmp_path / "reports")])
    # A sweep that was killed before it heard of the last checkpoint would lack its point in the curve.
    assert (tmp_path / "reports").read_text().split() == [str(step) for step in range(first, STEPS + 1, EVERY)]
    reached = [json.loads(path.read_text())["step"] for path in snapshots.glob("checkpoint_*/progress.json")]
    assert max(reached) == STEPS
    assert_same_curve(summary, uninterrupted, tracking)


def test_evaluation_of_the_model_and_what_it_has_to_beat(
    uninterrupted: JobResult, config: TrainJobConfig, tracking: TrackingConfig, tmp_path: Path
) -> None:
    settings = EvaluateJobConfig(
        model=uninterrupted.outputs["model"],
        collection=config.collection,
        output=str(tmp_path / "results"),
        classes="novel",
        episodes=12,
        shots=(1, 2),
        visualizations=2,
        workers=2,
        tracking=tracking,
    )
    summary = evaluate.run(settings)
    table = json.loads((tmp_path / "results/table.json").read_text())
    methods = ["model", "all foreground", "saliency of the query", "untrained prototype", "density ratio, untrained"]
    assert [(row["shots"], row["method"]) for row in table] == [(shots, name) for shots in (1, 2) for name in methods]
    assert all(row["miou_low"] <= row["miou"] <= row["miou_high"] for row in table)
    sheets = {f"{kind}-{shots}shot.png" for kind in ("episodes", "fixed") for shots in (1, 2)}
    assert {path.name for path in (tmp_path / "results").glob("*.png")} == sheets
    assert summary.inputs["1-shot plan"] == table[0]["plan"]
    assert not evaluate.run(settings).worked

    alone = evaluate.run(replace(settings, output=str(tmp_path / "alone"), workers=1))
    assert alone.metrics == summary.metrics, "the number of workers changes nothing"
    with pytest.raises(ValueError, match="no class split 'nothing'; its splits are base, novel"):
        evaluate.run(replace(settings, classes="nothing"))
