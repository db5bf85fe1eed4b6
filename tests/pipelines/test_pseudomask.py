"""The pseudo-mask job: killed and resumed, with one worker or two, run twice, with other settings."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fss.collection import Collection
from fss.collection.schema import MASK_SCHEMA
from fss.core.config import config_hash, to_dict
from fss.saliency import SaliencyConfig
from fss.saliency.config import Fleet, StudentSettings, ViTSettings
from fss.saliency.estimators import EstimatorSettings, identity
from fss.saliency.pseudomask import pseudomask_parts
from pipelines.masks.config import PseudomaskJobConfig
from pipelines.pseudomask import run
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.map_parts import OnActors, run_parts
from pipelines.runtime.ray_session import count_gpus

PICTURES, PART_SIZE = 40, 4
Paint = Callable[..., str]


@pytest.fixture(scope="module")
def undisturbed(
    ray_local: None, paint: Paint, tmp_path_factory: pytest.TempPathFactory, tracking: TrackingConfig
) -> Path:
    """A collection whose masks were made by one worker, in one go."""
    uri = paint(tmp_path_factory.mktemp("undisturbed") / "collection", count=PICTURES, part_size=PART_SIZE)
    run(PseudomaskJobConfig(collection=uri, workers=1, tracking=tracking))
    return Path(uri)


def parts_of(collection: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((collection / "masks/saliency").glob("*.parquet"))}


def acceptance_of(collection: Path) -> bytes:
    return (collection / "metadata/saliency/acceptances/default.parquet").read_bytes()


def test_writes_masks_acceptance_sheet_and_summary(undisturbed: Path) -> None:
    masks = Collection.open(str(undisturbed)).mask_set("saliency")
    accepted = masks.read_acceptance("default").accepted
    assert len(masks.finished_parts()) == PICTURES // PART_SIZE
    assert 0.4 * PICTURES < len(accepted) <= 0.65 * PICTURES
    folder = undisturbed / "metadata/saliency"
    for picture in ("histograms", "best", "worst", "random", "rejected"):
        assert (folder / f"report-default-{picture}.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((folder / "report-default.json").read_text())
    assert report["counts"]["accepted"] == len(accepted)
    assert json.loads((folder / "summary.json").read_text())["counts"]["accepted"] == len(accepted)


def test_two_workers_give_the_bytes_of_one(
    undisturbed: Path, paint: Paint, tmp_path: Path, tracking: TrackingConfig
) -> None:
    uri = paint(tmp_path / "collection", count=PICTURES, part_size=PART_SIZE)
    run(PseudomaskJobConfig(collection=uri, workers=2, tracking=tracking))
    assert parts_of(Path(uri)) == parts_of(undisturbed)
    assert acceptance_of(Path(uri)) == acceptance_of(undisturbed)


def test_processes_that_stay_make_the_bytes_of_tasks(undisturbed: Path, paint: Paint, tmp_path: Path) -> None:
    """The way of GPUs, two processes without one."""
    collection = Collection.open(paint(tmp_path / "collection", count=PICTURES, part_size=PART_SIZE))
    collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    make = partial(
        pseudomask_parts, collection_uri=collection.uri, set_name="saliency", cfg=SaliencyConfig(), device="cpu"
    )
    stage = OnActors(function=make, actors=2, gpus=0, names=3)
    result = run_parts(collection.part_names(), stage, stage="masks", out=io.StringIO())
    assert result.total("images") == PICTURES
    assert parts_of(Path(collection.uri)) == parts_of(undisturbed)


def test_a_second_run_does_no_work(undisturbed: Path, tracking: TrackingConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    result = run(PseudomaskJobConfig(collection=str(undisturbed), workers=1, tracking=tracking))
    assert not result.worked
    assert result.counts["images"] == PICTURES
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before


def test_other_settings_need_another_name_or_overwrite(undisturbed: Path, tracking: TrackingConfig) -> None:
    other = PseudomaskJobConfig(collection=str(undisturbed), saliency=SaliencyConfig(segments=120), tracking=tracking)
    with pytest.raises(ValueError, match="overwrite"):
        run(other)


def test_another_acceptance_makes_no_mask_again(undisturbed: Path, tracking: TrackingConfig) -> None:
    config = PseudomaskJobConfig(collection=str(undisturbed), tracking=tracking)
    before = parts_of(undisturbed)
    result = run(replace(config, accept_quantile=0.25, acceptance="strict"))
    assert result.counts["parts made"] == 0
    assert parts_of(undisturbed) == before
    strict = Collection.open(str(undisturbed)).mask_set("saliency").read_acceptance("strict")
    assert 0 < len(strict.accepted) <= 0.25 * PICTURES


def test_an_acceptance_that_is_gone_is_written_again(undisturbed: Path, tracking: TrackingConfig) -> None:
    config = PseudomaskJobConfig(collection=str(undisturbed), tracking=tracking)
    before = acceptance_of(undisturbed)
    Path(Collection.open(config.collection).mask_set("saliency").acceptance_uri("default")).unlink()
    result = run(config)
    assert result.worked and result.counts["parts made"] == 0
    assert acceptance_of(undisturbed) == before and not run(config).worked


def test_a_plan_is_printed_and_nothing_is_made(paint: Paint, tmp_path: Path) -> None:
    uri = paint(tmp_path / "collection", count=8)
    result = run(PseudomaskJobConfig(collection=uri, plan=True, fleet=Fleet(images=1e9, cores=4096, sample=4)))
    assert result.metrics["images"] == "1,000,000,000 in 976,563 parts of 1,024"
    assert result.metrics["measured"].startswith("4 images, ")
    assert not Path(uri, "masks").exists()


def test_a_gpu_that_is_not_there_is_told(
    ray_local: None, paint: Paint, tmp_path: Path, tracking: TrackingConfig
) -> None:
    uri = paint(tmp_path / "collection", count=4)
    config = PseudomaskJobConfig(collection=uri, tracking=tracking, device="cuda")
    with pytest.raises(ValueError, match="got precision 'bf16'; leave --precision out"):
        run(replace(config, device="auto", precision="bf16"))
    with pytest.raises(ValueError, match="classical estimator runs on the CPU"):
        run(config)
    if count_gpus() == 0:
        with pytest.raises(ValueError, match=r"device is cuda.* but there are 0 GPUs"):
            run(replace(config, estimator="vit", vit=ViTSettings(weights=None)))
    assert not Path(uri, "masks").exists()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"accept_quantile": 0.0}, r"accept_quantile must be greater than 0"),
        ({"limit": 0}, r"limit must be greater than or equal to 1"),
        ({"collection": "/nowhere"}, "there is no collection at /nowhere"),
        ({"collection": ""}, "--collection is required"),
        ({"estimator": "student"}, "give --estimator student together with --student FILE"),
        ({"student": "a-file"}, "give --estimator student together with --student FILE"),
        ({"estimator": "student", "student": "/no-such-student"}, "no student at /no-such-student"),
        ({"estimator": "student", "student": __file__}, "no student at .*test_pseudomask.py is text"),
        ({"estimator": "vit", "vit": ViTSettings(weights="/no-such-weights")}, "no weights file /no-such-weights"),
        ({"estimator": "vit", "vit": ViTSettings(weights=__file__)}, "--vit.weights: .*test_pseudomask.py is text"),
    ],
)
def test_mistakes_are_told_before_any_work(
    undisturbed: Path, mistake: dict[str, Any], message: str, tracking: TrackingConfig
) -> None:
    settings = {"collection": str(undisturbed), "output_mask_set": "mistaken", "tracking": tracking} | mistake
    with pytest.raises(ValueError, match=message):
        run(PseudomaskJobConfig(**settings))
    assert not (undisturbed / "masks/mistaken").exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (SaliencyConfig(), "daceb8f321513419"),
        (SaliencyConfig(segments=120), "6c5a1e0c3381c7aa"),
        (ViTSettings(), "d17ba1823933ed25"),
        (ViTSettings(weights=None), "8aa6029260425f4a"),
        (ViTSettings(weights="FILE"), "d1dffd2e6fd64807"),
        (StudentSettings(path="FILE"), "632dcb72fad97b67"),
    ],
)
def test_mask_sets_of_version_0_1_keep_their_hash(settings: EstimatorSettings, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"weights of a network")
    if isinstance(settings, ViTSettings) and settings.weights == "FILE":
        settings = replace(settings, weights=str(file))
    if isinstance(settings, StudentSettings):
        settings = replace(settings, path=str(file))
    assert config_hash(identity(settings)) == expected
    assert config_hash(identity(settings, "bf16")) != expected


def test_a_job_of_version_0_1_counts_as_finished(undisturbed: Path, tracking: TrackingConfig) -> None:
    """The key is the hash that version 0.1 wrote into summary.json."""
    names = [f"part-{number:05d}" for number in range(PICTURES // PART_SIZE)]
    masks = [to_dict(SaliencyConfig()), [0.65, "default", 0]]
    assert config_hash(["pseudomask", "/photos", "saliency", names[:2]], *masks) == "3feac3fe81f04f37"
    key = config_hash(["pseudomask", str(undisturbed), "saliency", names], *masks)
    result = run(PseudomaskJobConfig(collection=str(undisturbed), workers=1, tracking=tracking))
    assert (result.inputs["key"], result.inputs["saliency"]) == (key, "daceb8f321513419")


def test_a_dry_run_shows_the_resolved_settings_and_makes_nothing(paint: Paint, tmp_path: Path) -> None:
    uri = paint(tmp_path / "collection", count=8)
    result = run(PseudomaskJobConfig(collection=uri, limit=4, dry_run=True))
    assert result.metrics == {"parts": 1, "images at most": 4}
    assert (result.inputs["--device"], result.inputs["--saliency.segments"]) == ("cpu", 200)
    assert not Path(uri, "masks").exists()


@pytest.mark.slow
def test_killed_half_way_and_resumed_every_row_is_there_once(
    undisturbed: Path, paint: Paint, tmp_path: Path, tracking: TrackingConfig
) -> None:
    uri = paint(tmp_path / "collection", count=PICTURES, part_size=PART_SIZE)
    folder = Path(uri) / "masks/saliency"
    command = [sys.executable, "-m", "pipelines.pseudomask", "--collection", uri, "--workers", "1"]
    # A process group of its own: the kill takes driver, Ray and workers at once, as a power cut would.
    job = subprocess.Popen(
        [*command, "--tracking.uri", str(tracking.uri)], start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(list(folder.glob("part-*.parquet"))) < 3:
        assert job.poll() is None, "the job ended before it could be killed"
        assert time.monotonic() < deadline, "no part was written in two minutes"
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    made = len(list(folder.glob("part-*.parquet")))
    assert made < PICTURES // PART_SIZE, "the job was killed too late to be half done"

    result = run(PseudomaskJobConfig(collection=uri, workers=2, tracking=tracking))
    assert result.counts["parts kept"] >= made
    assert result.counts["parts made"] + result.counts["parts kept"] == PICTURES // PART_SIZE
    masks = Collection.open(uri).mask_set("saliency")
    rows = [row for part in sorted(masks.finished_parts()) for row in masks.read_part(part).to_pylist()]
    ids = [row["image_id"] for row in rows]
    assert len(ids) == len(set(ids)) == PICTURES
    assert set(rows[0]) == set(MASK_SCHEMA.names)
    assert parts_of(Path(uri)) == parts_of(undisturbed)
    assert acceptance_of(Path(uri)) == acceptance_of(undisturbed)
