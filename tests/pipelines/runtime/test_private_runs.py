"""What a tracking store learns about somebody's photographs: nothing where the run is private; secrets never."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from fss.collection.sources import SourceConfig
from fss.core import storage
from fss.inference.mlflow_model import log_model
from fss.inference.model_files import local_checkpoint
from fss.models import create_segmenter, load_checkpoint, save_checkpoint
from fss.models.checkpoint import read_description
from fss.tracking.lifetime import end_on_exit
from fss.tracking.privacy import public_tags
from fss.tracking.run import Run, tracking_client
from pipelines import ingest, pseudomask
from pipelines.masks.config import IngestConfig, PseudomaskJobConfig
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.metric_names import logged_metrics, result_metrics
from tests.helpers.bad_files.formats import encoded, picture
from tests.helpers.private_settings import SECRET as PLANTED
from tests.helpers.private_settings import configs, planted
from tests.helpers.stores import fresh_store

PLACE, PICTURE, KEY, SECRET = PLANTED, "birthday", "AKIAFAKEFAKEFAKE0001", "fake+Secret/Fake0123456789abcdefABCDEF01"


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
    tracking = TrackingConfig(uri=fresh_store(store), private=private)
    uri = str(tmp_path / f"{PLACE}-collection")
    ingest.run(IngestConfig(collection=uri, source=SourceConfig(path=str(photographs)), tracking=tracking))
    made = pseudomask.run(PseudomaskJobConfig(collection=uri, tracking=tracking))
    assert made.counts["images"] == 3
    told = found(store, PLACE) + found(store, PICTURE) + [str(path) for path in store.rglob("*.png")]
    assert bool(told) != private, told


METRIC_NAMES = {
    "loss",
    "images",
    "1-shot/model/mIoU",
    "quarantined_truncated",
    "kept.held_out_iou",
    "stage_2_best_val_miou",
    *("train/loss", "val/held_out_iou.raw", "val/objective", "val/miou.averaged", "speed/steps_per_second"),
    *result_metrics(
        {"photographs: usable": 1, "round-1: accepted masks": 1, "quarantined: truncated": 1},
        {"1-shot/model/mIoU": 1, "round-1: 1-shot/model/sureness.spearman": 1, "held_out_iou": 1, "kept.agreement": 1}
        | {"5-shot/density ratio, untrained/FB-IoU": 1, "round-1: audit IoU low": 1, "images per second": 1}
        | {"best model: 1-shot mIoU": 1, "stage 1: last val_miou": 1, "student: agreement": 1},
    ),
}


@pytest.mark.parametrize("private", [True, False])
def test_no_kind_of_value_gets_a_text_of_a_user_into_a_private_store(tmp_path: Path, private: bool) -> None:
    """Everything that a run can be told, with a secret in every name and value."""
    store, texts = tmp_path / "store", [PLACE, f"{PLACE}.jpg", f"/home/{PLACE}", f"{PLACE}: gone", f"IoU of {PLACE}"]
    store.mkdir()
    config = TrackingConfig(uri=f"https://{PLACE}", private=private)
    tags = {
        f"fss.{PLACE}": "1",
        "fss.verdict.model": PLACE,
        "fss.notes": PLACE,
        "mlflow.user": PLACE,
        "fss.job": "train",
    }
    run = Run.start(f"stage {PLACE}", uri=fresh_store(store), private=private, params=config, tags=tags)
    with pytest.raises(ValueError, match="gone"), end_on_exit(run):
        for cls in configs():
            Run.start(f"stage {PLACE}", parent=run, params=planted(cls(), unmarked=True)[0])
        run.log_params({f"search.{number}": text for number, text in enumerate(texts)} | {"search.tilt": 0.25})
        run.log_params({"nested": {"listed": texts, PLACE.upper(): texts}})
        for text in texts:
            names = [f"fss.{name}" for name in ("key", "collection", "mask_set", "job", "cpu", "error", "plan_1shot")]
            names += [f"fss.{name}" for name in ("data", "backbone", "learner", "method")]
            run.set_tags(dict.fromkeys(names, f"{text}/" if text == PLACE else text))
            prefixes = ["", "quarantined_", "kept.", "val_iou.", "importance_of_", "1-shot/", "loss.", "system/"]
            prefixes += ["train/", "eval/1-shot/", "total/", "result/"]
            run.log_metrics(logged_metrics({f"{prefix}{text}": 0.5 for prefix in prefixes}))
            run.log_json(f"{PLACE}.json", {text: 1, "a": [text]})
            run.log_text(f"{PLACE}.md", text)
        run.log_image(f"{PLACE}.png", np.zeros((4, 4, 3), np.uint8))
        run.log_metrics(dict.fromkeys(METRIC_NAMES, 0.5))
        raise ValueError(f"{PLACE} is gone")
    data = tracking_client(run.uri).get_run(run.run_id).data
    assert set(data.metrics) >= METRIC_NAMES
    assert data.params["private"] == str(private)
    assert data.params["search.tilt"] == "0.25"
    assert data.tags["fss.error"] == ("ValueError" if private else f"ValueError: {PLACE} is gone")
    assert {"fss.torch", "fss.job", "fss.cpus"} <= set(data.tags)
    assert bool(found(store, PLACE) + found(store, PLACE.upper())) != private


def test_every_job_may_say_its_name() -> None:
    for job in Path("pipelines").glob("[a-z]*.py"):
        tags = {"fss.job": job.stem, "mlflow.source.name": f"pipelines.{job.stem}"}
        assert public_tags(tags) == tags


def test_a_private_model_does_not_say_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", PLACE)  # MLflow's tag of the user
    monkeypatch.setattr("sys.argv", [f"/home/{PLACE}/train.py"])
    store = tmp_path / "store"
    store.mkdir()
    segmenter = create_segmenter(backbone="timm:test_resnet.r160_in1k", width=32)
    progress = {"step": 3, "weights": PLACE, "held_out_iou": {"raw": 0.5, PLACE: 0.5}}
    place = save_checkpoint(segmenter, tmp_path / PLACE, extra={"training": progress, PLACE: 1, "note": [PLACE]})
    (place / "notes.txt").write_text(PLACE)
    description = json.loads((place / "segmenter.json").read_text())
    description["segmenter"]["backbone_weights"] = f"/home/{PLACE}/w.pth"
    del description["checksum"]  # of the values before
    (place / "segmenter.json").write_text(json.dumps(description))
    with end_on_exit(Run.start("train", uri=fresh_store(store), private=True)) as run:
        uri = log_model(run, place)
    assert not found(store, PLACE)
    with local_checkpoint(uri, tracking=run.uri) as folder:
        assert read_description(folder)["training"] == {"step": 3, "held_out_iou": {"raw": 0.5}}
        assert load_checkpoint(folder).config == segmenter.config, "the model can be used as it is"


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
    uri = fresh_store(tmp_path)
    with end_on_exit(Run.start("job", uri=uri, params={"tracking": {"uri": "https://me:hunter2@mlflow"}})) as run:
        run.set_tags({"fss.note": "postgresql://me:hunter2@db/x"})
    assert not found(tmp_path, "hunter2")
