"""The ingest job on Ray: complete, resumable, and never stopped by a bad file."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fss.collection import Collection, ingest_part
from fss.collection.deletion import delete_collection
from fss.collection.sources import SourceConfig, SourceItem, folder
from fss.images.limits import DecodeLimits
from fss.tracking.run import tracking_client
from pipelines.ingest import main, run
from pipelines.masks.config import IngestConfig
from pipelines.runtime.config import PartFailureConfig, TrackingConfig
from pipelines.runtime.map_parts import PartError
from tests.helpers.bad_files.formats import OK, bad_files, encoded, picture
from tests.helpers.stores import fresh_store


def settings(tmp_path: Path, **more: object) -> IngestConfig:
    values = {
        "collection": str(tmp_path / "c"),
        "source": SourceConfig(path=str(tmp_path / "photos")),
        "part_size": 16,
        "tracking": TrackingConfig(uri=fresh_store(tmp_path)),
    }
    return IngestConfig(**{**values, **more})


@pytest.mark.usefixtures("ray_local")
def test_bad_files_among_good_ones(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(20):
        (root / f"{number:03d}.jpg").write_bytes(encoded("JPEG", picture((40 + number, 40))))
    for bad in bad_files():
        (root / bad.name).write_bytes(bad.data)
    config = settings(tmp_path)

    result = run(config)
    expected = [bad for bad in bad_files() if bad.expected != OK]
    assert result.worked
    assert result.counts["photographs"] == 20 + len(bad_files())
    assert result.counts["quarantined"] == len(expected)
    assert result.counts["quarantined: too-many-scans"] == 1
    assert result.counts["usable"] == 20 + len(bad_files()) - len(expected)
    collection = Collection.open(config.collection)
    found = {Path(row["uri"]).name: row["error"].split(":")[0] for row in collection.quarantine().to_pylist()}
    assert found == {bad.name: bad.expected for bad in expected}
    assert json.loads(Path(config.collection, "summary.json").read_text())["counts"] == result.counts

    again = run(config)
    assert not again.worked
    assert again.counts == result.counts

    Path(config.collection, "images/part-00001.parquet").unlink()
    fingerprint = collection.fingerprint()
    resumed = run(config)
    assert (resumed.counts["parts made"], resumed.counts["parts kept"]) == (1, len(collection.part_names()) - 1)
    assert collection.fingerprint() != fingerprint
    assert {key: value for key, value in resumed.counts.items() if not key.startswith("parts")} == {
        key: value for key, value in result.counts.items() if not key.startswith("parts")
    }


@pytest.mark.usefixtures("ray_local")
def test_the_number_of_workers_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SourceConfig(kind="sample", sample="labelled", count=12)
    prints, results = [], []
    for workers in (1, 3, None):
        if workers is None:  # in this process
            monkeypatch.setattr("pipelines.ingest.has_ray", lambda: False)
            monkeypatch.delattr("pipelines.runtime.job.Job.start_ray")
        result = run(
            settings(tmp_path, collection=f"{tmp_path}/c{workers}", source=source, part_size=4, workers=workers)
        )
        assert (result.counts["masks"], result.counts["classes"]) == (12, 16)
        folder = Path(tmp_path, f"c{workers}")
        prints.append({path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("part-*.parquet"))})
        results.append((result.counts, set(result.metrics), set(result.durations)))
    assert prints[0] == prints[1] == prints[2]
    assert results[0] == results[1] == results[2]
    assert len(prints[0]) == 9, "images, hashes and masks"


@pytest.mark.parametrize(
    ("photographs", "more", "address", "on_ray"),
    [(8, {}, "", False), (9, {}, "", True), (3, {"workers": 1}, "", True), (3, {}, "10.0.0.1:6379", True)],
)
def test_a_few_photographs_need_no_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photographs: int, more: dict, address: str, on_ray: bool
) -> None:
    def start(job: object) -> None:
        raise NotImplementedError("Ray")

    monkeypatch.setattr("pipelines.ingest.FEW", 8)
    monkeypatch.setattr("pipelines.runtime.job.Job.start_ray", start)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    (tmp_path / "photos").mkdir()
    for number in range(photographs):
        (tmp_path / f"photos/{number}.jpg").touch()
    with pytest.raises(NotImplementedError, match="Ray") if on_ray else nullcontext():
        run(settings(tmp_path, part_size=5, **more))


def test_files_that_were_written_since_are_told(
    tmp_path: Path, tracking: TrackingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("images/a.png", "masks/a.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "photos" / name)
    source = SourceConfig(kind="folder", path=str(tmp_path / "photos"))
    config = IngestConfig(collection=str(tmp_path / "c"), source=source, tracking=tracking)
    run(config)
    assert not run(config).worked and "have been written since" not in capsys.readouterr().err
    Image.fromarray(255 - np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "photos" / "masks" / "a.png")
    for _ in range(2):
        assert not run(config).worked
        assert "have been written since" in capsys.readouterr().err
    assert run(replace(config, overwrite=True)).worked and not run(config).worked
    assert "have been written since" not in capsys.readouterr().err


def test_a_part_that_fails_in_this_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(uri: str) -> None:
        raise OSError("AWS Error NETWORK_CONNECTION during GetObject")

    monkeypatch.setattr("pipelines.ingest.has_ray", lambda: False)
    monkeypatch.setattr("fss.collection.ingest_part.Collection.open", fail)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(encoded("JPEG"))
    with pytest.raises(PartError, match="ingest c failed on part part-00000: OSError: AWS Error NETWORK_CONNECTION"):
        run(settings(tmp_path))


def test_pictures_and_parts_that_fail_are_told_and_the_rest_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_decode, real_read = ingest_part.decode_image, folder.read_item

    def decode(data: bytes, limits: DecodeLimits) -> object:
        if data == encoded("JPEG", picture((43, 40))):
            raise RuntimeError("a mistake in the decoder")
        return real_decode(data, limits)

    def read(item: SourceItem, **settings: Any) -> object:
        if item.relative_path == "5.jpg":
            raise OSError("the store does not answer")
        return real_read(item, **settings)

    monkeypatch.setattr("pipelines.ingest.has_ray", lambda: False)
    monkeypatch.setattr(ingest_part, "decode_image", decode)
    monkeypatch.setattr(folder, "read_item", read)
    (tmp_path / "photos").mkdir()
    for number in range(6):
        (tmp_path / f"photos/{number}.jpg").write_bytes(encoded("JPEG", picture((40 + number, 40))))
    config = settings(tmp_path, part_size=2, failures=PartFailureConfig(max_failed_parts=0.34))
    result = run(config)
    assert result.notes == [
        "part-00002 failed and is missing: OSError: the store does not answer",
        "3.jpg in part-00001 made the part fail: RuntimeError: a mistake in the decoder",
    ]
    assert result.counts["quarantined: faulty"] == 1
    collection = Collection.open(config.collection)
    assert collection.part_names() == ["part-00000", "part-00001"]
    monkeypatch.setattr(folder, "read_item", real_read)
    resumed = run(config)
    assert (resumed.notes, resumed.counts["parts made"], resumed.counts["parts kept"]) == ([], 1, 2)


def labelled(root: Path, masks: dict[str, int]) -> SourceConfig:
    """Four photographs, and by name a mask whose upper half is a class."""
    for subfolder in ("images", "masks"):
        (root / subfolder).mkdir(parents=True)
    for name in "abcd":
        (root / f"images/{name}.jpg").write_bytes(encoded("JPEG"))
    for name, class_id in masks.items():
        mask = np.repeat(np.array([class_id, 0], np.uint8), 20)[:, None].repeat(48, 1)
        Image.fromarray(mask).save(root / f"masks/{name}.png")
    return SourceConfig(path=str(root), masks="index", class_names=("background", "road", "tree"))


@pytest.mark.parametrize(
    ("masks", "code", "told"),
    [
        ({"a": 1, "b": 1, "c": 2, "d": 2}, 0, ""),
        ({"a": 1, "b": 2, "c": 7}, 3, "the class list lacks 1 id that the masks hold: 7 (in 1 mask)"),
        (
            {"x": 1, "y": 2},
            2,
            "there are 4 photographs, such as images/a.jpg, images/b.jpg, images/c.jpg, images/d.jpg, and ",
        ),
        ({}, 2, "masks=index needs masks, but"),
    ],
)
def test_the_exit_code_tells_whether_the_masks_are_plausible(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    masks: dict,
    code: int,
    told: str,
) -> None:
    monkeypatch.setattr("pipelines.ingest.has_ray", lambda: False)
    monkeypatch.setenv("COLUMNS", "300")
    source, store = labelled(tmp_path / "in", masks), fresh_store(tmp_path)
    words = [
        "--collection",
        f"{tmp_path}/c",
        "--source.path",
        source.path,
        "--tracking.uri",
        store,
        "--source.masks",
        "index",
    ]
    monkeypatch.setattr("sys.argv", ["ingest", *words, "--source.class-names", *source.class_names])
    for _ in range(2):  # the second time, the job has finished before
        with pytest.raises(SystemExit) if code else nullcontext() as end:
            main()
        assert (end.value.code if end else 0) == code
        printed = "".join(capsys.readouterr())
        assert told in printed
        assert ("notes" in printed) == (code == 3)
    assert (tmp_path / "c/labels.png").is_file() == (code != 2)
    if code == 3:
        notes = json.loads((tmp_path / "c/summary.json").read_text())["notes"]
        assert tuple(notes) == Collection.open(f"{tmp_path}/c").notes and len(notes) == 1
        (run_info,) = tracking_client(store).search_runs(["1"])
        assert run_info.data.tags["fss.notes"] == "\n".join(notes)
        assert "labels.png" in {file.path for file in tracking_client(store).list_artifacts(run_info.info.run_id)}
        delete_collection(f"{tmp_path}/c")
        assert not (tmp_path / "c/labels.png").exists()


def test_masks_that_cannot_be_used_at_all_are_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.ingest.has_ray", lambda: False)
    source = labelled(tmp_path / "in", {"a": 1})
    (tmp_path / "in/masks/a.png").write_bytes(b"no picture")
    with pytest.raises(
        ValueError, match=r"3 missing-mask, 1 unknown-format, such as that of images/a.jpg: unknown-format"
    ):
        run(settings(tmp_path, source=source))


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(encoded("JPEG"))
    config = settings(tmp_path, dry_run=True)
    store = (tmp_path / "mlflow.db").read_bytes()
    result = run(config)
    assert result.job == "ingest (dry run)"
    assert result.metrics == {"photographs": 1, "parts": 1, "largest part": 1}
    assert (result.inputs["--collection"], result.inputs["--part-size"]) == (str(tmp_path / "c"), 16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "photos"]
    assert (tmp_path / "mlflow.db").read_bytes() == store


def test_mistakes_are_named_before_any_work(tmp_path: Path) -> None:
    config = settings(tmp_path)
    store = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(ValueError, match="there is no folder"):
        run(config)
    with pytest.raises(ValueError, match="--collection is required"):
        run(replace(config, collection=""))
    with pytest.raises(ValueError, match=r"limit must be greater than or equal to 1"):
        settings(tmp_path, limit=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"], "no collection was made"
    assert (tmp_path / "mlflow.db").read_bytes() == store, "no run was made"
