"""Rounds of self-training: masks made again, judged, and trained on from fresh weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fss.collection import Collection
from fss.models import SegmenterConfig, save_checkpoint
from fss.relabel import RelabelConfig
from fss.relabel.config import RoundGateConfig
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from pipelines.end_to_end.config import RoundsConfig
from pipelines.end_to_end.rounds import run_rounds
from pipelines.masksplit import MaskSplitJobConfig, run
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.result import JobResult
from pipelines.training.config import TrainJobConfig
from tests.helpers.networks import from_equal_chances

pytestmark = pytest.mark.usefixtures("ray_local")
Paint = Callable[..., str]
# A network without training is sure of nothing: every pixel above one half is object, and any mask set is good enough.
ROUNDS = RoundsConfig(
    relabel=RelabelConfig(foreground=0.5, background=0.5),
    go=RoundGateConfig(min_agreement=0, min_valid=0, max_area_shift=1, max_changed=1, min_changed=0),
    accept_quantile=1.0,
)
NETWORK = SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=80, width=32)


def test_a_round_trains_on_its_masks_until_they_collapse(
    paint_masked: Paint, tmp_path: Path, tracking: TrackingConfig
) -> None:
    checkpoint = str(save_checkpoint(from_equal_chances(NETWORK, seed=5), tmp_path / "untrained"))
    trained = TrainJobConfig(
        collection=paint_masked(tmp_path / "c", count=24, part_size=8),
        output=str(tmp_path / "models"),
        segmenter=NETWORK,
        stream=StreamConfig(batch_size=8),
        training=OptimizerConfig(steps=2, learning_rate=1e-5, ema=0.9),
        checkpoint_every=2,
        select="last",
        tracking=tracking,
        log_model=False,
    )
    first, summary = JobResult(job="train", outputs={"model": checkpoint}), JobResult(job="test")
    with job_run("test", key="rounds", tracking=tracking) as record:
        done = list(run_rounds(3, ROUNDS, trained, first, workers=2, seed=0, summary=summary, record=record))
    # The first masks are those of a random network; after two steps a new one finds no object at all yet.
    ((name, training),) = done
    assert name == "round-1" and summary.outputs["round-1: decision"] == "proceed"
    assert summary.counts["round-1: accepted masks"] > 8
    assert training.inputs["mask_set"] == Collection.open(trained.collection).mask_set("round-1").config_hash
    assert summary.outputs["round-1: model"] == training.outputs["model"] != checkpoint
    assert summary.outputs["round-2: decision"].startswith("stop: no mask passes every gate")
    assert "round-2: model" not in summary.outputs and "round-3: decision" not in summary.outputs
    second = Collection.open(trained.collection).mask_set("round-2").provenance
    assert second["source"] == "round-1" and second["checkpoint"] == training.outputs["model"]


@pytest.fixture(scope="module")
def config(paint: Paint, tmp_path_factory: pytest.TempPathFactory, tracking: TrackingConfig) -> MaskSplitJobConfig:
    """The main job with two rounds, audited."""
    home = tmp_path_factory.mktemp("rounds")
    return MaskSplitJobConfig(
        photographs=paint(home / "c", count=24, labelled=True, part_size=8),
        workdir=str(home / "work"),
        backbone="timm:test_resnet.r160_in1k",
        image_size=80,
        steps=2,
        batch=8,
        rounds=2,
        self_training=replace(ROUNDS, audit="truth"),
        tracking=tracking,
    )


@pytest.mark.slow
def test_an_audit_that_does_not_surely_rise_ends_the_rounds(config: MaskSplitJobConfig) -> None:
    summary = run(config)
    assert summary.counts["rounds"] == 0 and "no sure gain" in summary.outputs["round-1: decision"]
    metrics = summary.metrics
    assert metrics["round-1: audited pictures"] == 24
    gain = metrics["round-1: audit IoU"] - metrics["round-1: audit IoU before"]
    assert metrics["round-1: audit gain"] == pytest.approx(gain, abs=2e-4)
    assert metrics["round-1: audit IoU low"] <= metrics["round-1: audit IoU"] <= metrics["round-1: audit IoU high"]
    assert "round-2: audit IoU" not in metrics and "round-1: model" not in summary.outputs
    assert not run(config).worked


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rounds": -1}, "rounds is 0 or more"),
        ({"self_training": RoundsConfig(audit="gold")}, "has no 'gold'"),
        ({"self_training": RoundsConfig(audit="truth"), "photographs": None}, "has no 'truth'"),
    ],
)
def test_mistakes_are_told_before_any_work(
    config: MaskSplitJobConfig, change: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        run(replace(config, workdir=str(tmp_path / "work"), **change))  # type: ignore[arg-type]
    assert not (tmp_path / "work").exists()


def test_rounds_know_no_labelled_shots() -> None:
    with pytest.raises(ValueError, match="no labelled shots"):
        RoundsConfig(relabel=RelabelConfig(supports="bank"))
