"""The main job, end to end at toy size."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fss.collection import Collection
from pipelines.masksplit import MaskSplitJobConfig, run
from pipelines.runtime.config import TrackingConfig

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
    return MaskSplitJobConfig(
        photographs=str(folder),
        evaluation=str(labelled),
        workdir=str(tmp_path_factory.mktemp("work")),
        backbone="timm:test_resnet.r160_in1k",
        image_size=80,
        steps=2,
        batch=8,
        learning_rate=1e-3,
        episodes=6,
        shots=(1, 2),
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
    assert (Path(config.workdir) / "summary.json").is_file()

    client = MlflowClient(tracking_uri=tracking.uri)
    run_id = str(summary.run_id)
    experiment = client.get_run(run_id).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert sorted(child.info.run_name for child in children) == ["evaluate", "ingest", "ingest", "pseudomask", "train"]
    assert {child.info.status for child in children} == {"FINISHED"}

    before = {path: path.stat().st_mtime_ns for path in Path(config.workdir).rglob("*")}
    again = run(config)
    assert not again.worked
    assert again.metrics == summary.metrics
    assert {path: path.stat().st_mtime_ns for path in Path(config.workdir).rglob("*")} == before


def test_dry_run_does_nothing(config: MaskSplitJobConfig, tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    summary = run(replace(config, dry_run=True, workdir=str(workdir)))
    assert summary.metrics["training steps"] == 2
    assert not workdir.exists()


@pytest.mark.parametrize("mistake", [{"photographs": "/nowhere"}, {"evaluation": "/nowhere"}, {"limit": 0}])
def test_mistakes_are_told_before_any_work(
    config: MaskSplitJobConfig, mistake: dict[str, str | int], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"no photographs|there is no|limit"):
        run(replace(config, workdir=str(tmp_path / "work"), **mistake))
    assert not (tmp_path / "work").exists()
