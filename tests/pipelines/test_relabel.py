"""The relabelling job: what it writes, twice, killed and resumed, with other supports, and mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fss.collection import Collection
from fss.models import FewShotSegmenter, SegmenterConfig, precision, save_checkpoint
from fss.relabel import RelabelConfig, feature_tables
from fss.relabel.support_bank import finished_tables
from pipelines.relabel import run
from pipelines.relabeling.config import LabelledShots, RelabelJobConfig
from pipelines.runtime.config import TrackingConfig

PICTURES, PART_SIZE = 40, 2
Paint = Callable[..., str]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random network."""
    config = SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=80, width=32)
    return str(save_checkpoint(FewShotSegmenter.from_config(config), tmp_path_factory.mktemp("checkpoint")))


def painted(paint_masked: Paint, folder: Path) -> str:
    return paint_masked(folder, count=PICTURES, part_size=PART_SIZE)


def config_of(uri: str, checkpoint: str, tracking: TrackingConfig) -> RelabelJobConfig:
    # A random network is sure of nothing: every pixel above one half is object.
    settings = RelabelConfig(foreground=0.5, background=0.5, shots=1, min_similarity=-1.0)
    return RelabelJobConfig(
        collection=uri, model=checkpoint, earlier=(checkpoint,), relabel=settings, workers=1, tracking=tracking
    )


@pytest.fixture(scope="module")
def done(
    ray_local: None,
    paint_masked: Paint,
    checkpoint: str,
    tmp_path_factory: pytest.TempPathFactory,
    tracking: TrackingConfig,
) -> RelabelJobConfig:
    """A relabelling that was never disturbed."""
    config = config_of(painted(paint_masked, tmp_path_factory.mktemp("done") / "c"), checkpoint, tracking)
    run(config)
    return config


def contents(config: RelabelJobConfig) -> dict[str, bytes]:
    folders = [Path(config.collection, folder, config.output_mask_set) for folder in ("masks", "metadata")]
    files = [(folder, path) for folder in folders for path in sorted(folder.rglob("*.parquet"))]
    # A manifest holds the times of the parts' files, which differ from run to run.
    return {str(path.relative_to(folder)): path.read_bytes() for folder, path in files if "manifest" not in path.parts}


def test_writes_masks_neighbours_acceptance_and_report(done: RelabelJobConfig) -> None:
    masks = Collection.open(done.collection).mask_set("round-1")
    names = {f"{kind}part-{number:05d}.parquet" for kind in ("", "features/", "neighbours/") for number in range(20)}
    assert names <= set(contents(done))
    assert feature_tables.finished(masks, "candidates") == finished_tables(masks) != set()
    acceptance = masks.read_acceptance("default")
    assert acceptance.rule["within_clusters"] and acceptance.rule["scores"] == ["view", "support", "checkpoint"]
    summary = json.loads(Path(masks.metadata_uri, "summary.json").read_text())
    assert summary["counts"]["images"] == summary["counts"]["pictures in the bank"] == PICTURES
    assert summary["counts"]["accepted"] == len(acceptance.accepted)
    assert summary["metrics"]["images per second"] > 0 and 0 < summary["metrics"]["share outside the network"] < 1
    assert masks.provenance["source"] == "saliency" and len(masks.provenance["config"]["model"]) == 16
    assert Path(masks.metadata_uri, "report-default-random.png").is_file()
    assert "was not compared with ground truth" in summary["verdicts"]["masks"]["line"]
    assert 0 < summary["metrics"]["changed pixels"] < 1 and "audit IoU" not in summary["metrics"]
    assert (
        Path(masks.metadata_uri, "report-drift.md")
        .read_text()
        .endswith(f"Decision: {summary['outputs']['decision']}\n")
    )
    assert Path(masks.metadata_uri, "report-drift.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_does_nothing_and_another_model_or_precision_needs_another_name(
    done: RelabelJobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    before = contents(done)
    assert not run(done).worked and contents(done) == before
    network = FewShotSegmenter.from_config(
        SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=80, width=32, seed=1)
    )
    other = str(save_checkpoint(network, tmp_path / "other"))
    for change in ({"model": other}, {"precision": "bf16"}):
        with pytest.raises(ValueError, match="overwrite"):
            run(replace(done, **change))  # type: ignore[arg-type]
    assert contents(done) == before


def test_another_acceptance_makes_no_mask_again(done: RelabelJobConfig) -> None:
    summary = run(replace(done, output_acceptance="all", accept_quantile=1.0))
    assert summary.counts["parts made"] == 0
    masks = Collection.open(done.collection).mask_set("round-1")
    assert masks.read_acceptance("all").accepted >= masks.read_acceptance("default").accepted


def test_an_audit_measures_both_sets_and_makes_no_mask_again(done: RelabelJobConfig) -> None:
    summary = run(replace(done, truth_mask_set="truth"))
    assert summary.counts["parts made"] == 0 and summary.metrics["audited pictures"] == PICTURES
    assert summary.metrics["audit IoU before"] == 1.0  # the masks of before are the truth
    assert summary.metrics["audit gain high"] < 0 and "no sure gain" in summary.outputs["decision"]


def test_a_class_bank_labels_by_class(done: RelabelJobConfig, paint: Paint, tmp_path: Path) -> None:
    shots = LabelledShots(collection=paint(tmp_path / "labelled", count=64, labelled=True), classes="base")
    settings = replace(done.relabel, supports="bank")
    summary = run(replace(done, output_mask_set="by-class", relabel=settings, bank=shots, earlier=(), limit=8))
    masks = Collection.open(done.collection).mask_set("by-class")
    rows = [row for name in sorted(masks.finished_parts()) for row in masks.read_part(name).to_pylist()]
    assert summary.counts["images"] == len(rows) == 8
    known = set(Collection.open(str(shots.collection)).class_splits["base"])
    shown = {entry["id"] for row in rows for entry in row["classes"]}
    assert shown and shown <= known


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output_mask_set": "saliency"}, "mask_set and output_mask_set are both"),
        ({"mask_set": "nothing"}, "has no mask set 'nothing'"),
        ({"acceptance": "none"}, "no acceptance 'none'"),
        ({"truth_mask_set": "gold"}, "has no mask set 'gold'"),
        ({"model": "/nowhere"}, "there is no folder /nowhere; give the folder of a checkpoint or of a job"),
        ({"relabel": RelabelConfig(supports="bank"), "output_mask_set": "x"}, "give --bank.collection"),
        (
            {"bank": LabelledShots(classes="base")},
            r"relabel.supports is .* and takes none; give --relabel.supports bank",
        ),
        ({"accept_quantile": 0.0}, r"accept_quantile must be greater than 0"),
    ],
)
def test_mistakes_are_told_before_any_work(done: RelabelJobConfig, change: dict[str, object], words: str) -> None:
    before = contents(done)
    with pytest.raises(ValueError, match=words):
        run(replace(done, **change))  # type: ignore[arg-type]
    assert contents(done) == before and not Path(done.collection, "masks", "x").exists()


def test_a_seed_that_the_clusters_do_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="seed must be less than 2147483648, got 1764482400000"):
        RelabelConfig(seed=1_764_482_400_000)


def test_one_support_set_has_nothing_to_agree_with(done: RelabelJobConfig) -> None:
    with pytest.raises(ValueError, match="sets"):
        run(replace(done, relabel=RelabelConfig(sets=1)))


@pytest.mark.slow
def test_killed_half_way_and_resumed_the_bytes_are_the_same(
    done: RelabelJobConfig, paint_masked: Paint, checkpoint: str, tmp_path: Path, tracking: TrackingConfig
) -> None:
    config = config_of(painted(paint_masked, tmp_path / "c"), checkpoint, tracking)
    words = (
        "--relabel.foreground 0.5 --relabel.background 0.5 --relabel.shots 1 --relabel.min-similarity -1.0 --workers 1"
    )
    command = [sys.executable, "-m", "pipelines.relabel", "--collection", config.collection, *words.split()]
    command += ["--model", checkpoint, "--earlier", checkpoint, "--tracking.uri", str(tracking.uri)]
    # A process group of its own: the kill takes driver, Ray and workers at once, as a power cut would.
    job = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    folder, deadline = Path(config.collection, "masks", "round-1"), time.monotonic() + 120
    while len(list(folder.glob("part-*.parquet"))) < 3:
        assert job.poll() is None, "the job ended before it could be killed"
        assert time.monotonic() < deadline, "no part was written in two minutes"
        time.sleep(0.02)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    made = len(list(folder.glob("part-*.parquet")))
    assert made < PICTURES // PART_SIZE, "the job was killed too late to be half done"
    summary = run(replace(config, workers=2))
    assert summary.counts["parts kept"] >= made
    assert summary.counts["parts made"] + summary.counts["parts kept"] == PICTURES // PART_SIZE
    assert contents(config) == {name: data for name, data in contents(done).items() if "all" not in name}
