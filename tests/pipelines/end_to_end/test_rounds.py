"""Rounds of self-training: masks made again, judged, and trained on from fresh weights."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fss.collection import Collection
from fss.models import SegmenterConfig, save_checkpoint
from fss.relabel import RelabelConfig
from fss.relabel.config import RoundGateConfig
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from pipelines.end_to_end.config import MaskSplitJobConfig
from pipelines.end_to_end.rounds import run_rounds
from pipelines.masksplit import run
from pipelines.relabeling.config import RelabelSettings
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.job import Job
from pipelines.runtime.result import JobResult
from pipelines.training.config import TrainSettings
from tests.helpers.networks import from_equal_chances

pytestmark = pytest.mark.usefixtures("ray_local")
Paint = Callable[..., str]
# A network without training is sure of nothing: every pixel above one half is object, and any mask set is good enough.
ROUNDS = RelabelSettings(
    relabel=RelabelConfig(foreground=0.5, background=0.5),
    round_gate=RoundGateConfig(min_agreement=0, min_valid=0, max_area_shift=1, max_changed=1, min_changed=0),
    accept_quantile=1.0,
)
NETWORK = SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=80, width=32)


@pytest.mark.slow
def test_a_round_trains_on_its_masks_until_they_collapse(
    paint_masked: Paint, tmp_path: Path, tracking: TrackingConfig
) -> None:
    checkpoint = str(save_checkpoint(from_equal_chances(NETWORK, seed=5), tmp_path / "untrained"))
    config = MaskSplitJobConfig(
        output=str(tmp_path),
        train=TrainSettings(
            segmenter=NETWORK,
            stream=StreamConfig(batch_size=8),
            optimizer=OptimizerConfig(steps=2, learning_rate=1e-5, ema=0.9),
            checkpoint_every=2,
            select="last",
            log_model=False,
        ),
        rounds=3,
        relabel=ROUNDS,
        data_workers=2,
        tracking=tracking,
    )
    trained = config.train_job(paint_masked(tmp_path / "c", count=24, part_size=8))
    first = JobResult(job="train", outputs={"model": checkpoint})
    with Job("test", config, key="rounds", output_dir=str(tmp_path / "test"), inputs={}) as job:
        rounds = list(run_rounds(config, trained, first, job))
    summary = job.result
    # The first masks are those of a random network; after two steps a new one finds no object at all yet.
    ((name, training),) = rounds
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
    folder = tmp_path_factory.mktemp("rounds")
    return MaskSplitJobConfig(
        photographs=paint(folder / "c", count=24, labelled=True, part_size=8),
        output=str(folder / "work"),
        train=TrainSettings(
            segmenter=SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=80),
            stream=StreamConfig(batch_size=8),
            optimizer=OptimizerConfig(steps=2),
        ),
        rounds=2,
        relabel=replace(ROUNDS, truth_mask_set="truth"),
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
        ({"rounds": -1}, r"rounds must be greater than or equal to 0"),
        ({"relabel": replace(ROUNDS, truth_mask_set="gold")}, "truth-mask-set is 'gold'.* has no such mask set"),
        ({"relabel": replace(ROUNDS, truth_mask_set="truth"), "photographs": None}, "is 'truth'.* no such mask set"),
    ],
)
def test_mistakes_are_told_before_any_work(
    config: MaskSplitJobConfig, change: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        run(replace(config, output=str(tmp_path / "work"), **change))  # type: ignore[arg-type]
    assert not (tmp_path / "work").exists()


def test_rounds_know_no_labelled_shots() -> None:
    with pytest.raises(ValueError, match="no labelled shots"):
        MaskSplitJobConfig(relabel=RelabelSettings(relabel=RelabelConfig(supports="bank")))


def test_rounds_without_the_extra_are_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    config = MaskSplitJobConfig(rounds=1, output=str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"--rounds needs faiss, .*pip install 'fss-masks\[relabel\]'"):
        run(config)
    assert not list(tmp_path.iterdir())
