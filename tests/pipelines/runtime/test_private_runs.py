"""What a tracking store learns about somebody's photographs: nothing where the run is private; secrets never."""

import os
from pathlib import Path

import numpy as np
import pytest

from fss.collection.sources import SourceConfig
from fss.core import storage
from fss.inference.mlflow_model import log_model
from fss.models import create_segmenter, save_checkpoint
from fss.tracking.run import Run, end_on_exit
from pipelines import ingest, pseudomask
from pipelines.masks.config import IngestConfig, PseudomaskJobConfig
from pipelines.runtime.config import TrackingConfig
from tests.helpers.bad_files.formats import encoded, picture

PLACE, PICTURE, KEY, SECRET = "auntmary", "birthday", "AKIAFAKEFAKEFAKE0001", "fake+Secret/Fake0123456789abcdefABCDEF01"


def found(folder: Path, word: str) -> list[str]:
    """The files below a folder that hold a word, in their names or contents."""
    names = [path for path in folder.rglob("*") if word in str(path.relative_to(folder))]
    return sorted({str(path) for path in names} | {str(path) for path in _with_contents(folder, word.encode())})


def _with_contents(folder: Path, word: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and word in path.read_bytes()]


@pytest.mark.parametrize("private", [True, False])
def test_places_names_and_pictures_stay_out_of_a_private_store(tmp_path: Path, ray_local: None, private: bool) -> None:
    photographs, store = tmp_path / PLACE, tmp_path / "store"
    photographs.mkdir()
    store.mkdir()
    for number in range(2):
        (photographs / f"{PICTURE}-{number}.jpg").write_bytes(encoded("JPEG", picture((64 + number, 64))))
    (photographs / f"{PICTURE}-broken.jpg").write_bytes(b"")
    tracking = TrackingConfig(uri=f"sqlite:///{store}/mlflow.db", private=private)
    uri = str(tmp_path / f"{PLACE}-collection")
    ingest.run(IngestConfig(collection=uri, source=SourceConfig(path=str(photographs)), tracking=tracking))
    made = pseudomask.run(PseudomaskJobConfig(collection=uri, tracking=tracking))
    assert made.counts["images"] == 3
    told = found(store, PLACE) + found(store, PICTURE) + [str(path) for path in store.rglob("*.png")]
    assert bool(told) != private, told


def test_a_private_model_does_not_say_where_it_was(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    place = save_checkpoint(create_segmenter(backbone="timm:test_resnet.r160_in1k", width=32), tmp_path / PLACE)
    (place / "segmenter.json").write_text(
        (place / "segmenter.json")
        .read_text()
        .replace('"backbone_weights": null', f'"backbone_weights": "/home/{PLACE}/w.pth"')
    )
    with end_on_exit(Run.start("train", uri=f"sqlite:///{store}/mlflow.db", private=True)) as run:
        run.log_image("sheet.png", np.zeros((4, 4, 3), np.uint8))
        run.log_text("report.md", f"/home/{PLACE}")
        log_model(run, place)
    assert not found(store, PLACE)
    assert list(store.rglob("model.safetensors"))


def test_keys_of_the_environment_reach_neither_store_nor_logs_nor_collection(
    s3: str,
    tmp_path: Path,
    tracking: TrackingConfig,
    ray_local: None,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{SECRET}token")
    storage.write_atomically(*storage.resolve(f"{s3}/raw/a.jpg"), encoded("JPEG", picture((64, 64))))
    store = Path(str(tracking.uri).removeprefix("sqlite:///")).parent
    uri = str(tmp_path / "c")
    ingest.run(IngestConfig(collection=uri, source=SourceConfig(path=f"{s3}/raw"), tracking=tracking))
    with pytest.raises(ValueError, match="no folder"):
        ingest.run(IngestConfig(collection=f"{uri}2", source=SourceConfig(path=f"{s3}/no"), tracking=tracking))
    said = "".join(capfd.readouterr())
    for secret in (KEY, SECRET):
        assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET
        assert secret not in said
        assert not found(store, secret) + found(tmp_path, secret)


def test_a_store_s_password_is_not_written_into_it(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with end_on_exit(Run.start("job", uri=uri, params={"tracking": {"uri": "https://me:hunter2@mlflow"}})) as run:
        run.set_tags({"fss.note": "postgresql://me:hunter2@db/x"})
    assert not found(tmp_path, "hunter2")
