"""Verbs about collections and models: inspect, masks, export, doctor."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fss.cli import main
from fss.collection import ingest_local
from fss.collection.sources import SourceConfig
from fss.models import SegmenterConfig, create_segmenter, save_checkpoint
from fss.training.few_shot.cost_estimate import measure_step
from tests.helpers.bad_files.formats import encoded, picture


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> str:
    source = SourceConfig(kind="sample", sample="labelled", count=5)
    return ingest_local(source, str(tmp_path_factory.mktemp("c") / "sample"), part_size=3).uri


def ends(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main.main([str(word) for word in words])
    return int(end.value.code or 0)


def test_inspect_describes_the_collection(collection: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("inspect", collection, "--sheet", tmp_path / "sheet.png", "--count", 4) == 0
    output = capsys.readouterr().out
    assert all(words in output for words in ("5 in 2 parts of 3", "masks truth", "complete, 5 masks", "ground truth"))
    assert Image.open(tmp_path / "sheet.png").width > 600
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.png").write_bytes(encoded("PNG", picture((40, 48))))
    plain = ingest_local(SourceConfig(path=str(tmp_path / "folder")), str(tmp_path / "plain")).uri
    assert ends("inspect", plain, "--sheet", tmp_path / "plain.png") == 0
    assert Image.open(tmp_path / "plain.png").width < 200
    assert ends("inspect", collection, "--sheet", tmp_path / "sheet.png", "--mask-set", "none") == 2
    capsys.readouterr()
    assert ends("inspect", collection, "--mask-set", "truth") == 2
    assert "--mask-set truth is drawn on a sheet; give --sheet FILE" in capsys.readouterr().err


def test_masks_are_exported_and_deletion_needs_confirmation(
    collection: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends("masks", "export", collection, "truth", "--output", tmp_path / "png", "--values", "class") == 0
    assert len(list((tmp_path / "png").glob("*.png"))) == 5
    assert (tmp_path / "png" / "masks.csv").read_text().count("\n") == 6
    assert ends("masks", "export", collection, "truth", "--output", tmp_path / "png", "--values", "class") == 0
    assert ends("masks", "export", collection, "truth", "--output", tmp_path / "coco", "--form", "coco") == 0
    named = ["masks", "export", collection, "truth", "--output", tmp_path / "new" / "coco.json", "--form"]
    assert ends(*named, "coco") == 0
    assert (tmp_path / "new" / "coco.json").read_bytes() == (tmp_path / "coco" / "instances.json").read_bytes()
    assert ends(*named, "cvat") == ends(*named, "png") == 2
    assert len(json.loads((tmp_path / "coco" / "instances.json").read_text())["images"]) == 5
    capsys.readouterr()
    assert ends("masks", "delete", collection, "truth") == 2
    assert "give --yes to do it" in capsys.readouterr().err
    assert ends("masks", "rename", collection, "truth", "mine") == 2


@pytest.mark.parametrize(
    ("name", "content"), [("classes.csv", "id,name\n1,mine\n"), ("masks.csv", "picture,mask,share\n")]
)
def test_an_export_replaces_no_table_of_others(
    name: str, content: str, collection: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / name).write_text(content)
    assert ends("masks", "export", collection, "truth", "--output", tmp_path / "labels") == 2
    assert f"{name} is not of an export of masks, which would replace it" in capsys.readouterr().err
    assert (tmp_path / "labels" / name).read_text() == content


def test_a_model_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segmenter = create_segmenter(backbone="timm:test_resnet.r160_in1k", image_size=96, width=32)
    save_checkpoint(segmenter, tmp_path / "model")
    assert ends("export", "--model", tmp_path / "model", "--output", tmp_path / "new" / "s.pt2") == 0
    assert (tmp_path / "new" / "s.pt2").stat().st_size > 100_000
    assert "differ by" in capsys.readouterr().out


def test_a_disk_that_does_not_take_a_program_is_told_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segmenter = create_segmenter(backbone="timm:test_resnet.r160_in1k", image_size=96, width=32)
    save_checkpoint(segmenter, tmp_path / "model")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))  # bytes of a file
    try:
        code = ends("export", "--model", tmp_path / "model", "--output", tmp_path / "new" / "s.pt2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (code, list((tmp_path / "new").iterdir())) == (1, [])
    assert capsys.readouterr().err.splitlines()[-1].startswith("fss export: error: no space left")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["s.onnx", "--form", "pt2"], "ends with .onnx, but --form is pt2"),
        (["s.bin"], "tells no format; end it with .onnx or .pt2, or give --form"),
        ([""], "is a folder; give a file"),
        (["file/s.pt2"], "is a file; give another folder"),
    ],
)
def test_an_export_is_named_like_its_format(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert ends("export", "--model", "none", "--output", f"{tmp_path}/{words[0]}", *words[1:]) == 2
    assert message in capsys.readouterr().err
    assert ends("export", "--model", "none", "--output", "s3://bucket/s.pt2") == 2
    assert "must be a local file" in capsys.readouterr().err


def test_the_doctor_estimates_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(encoded("JPEG", picture((120, 100 + number))))
    measured: list[SegmenterConfig] = []

    def measure(config: SegmenterConfig, *settings: Any, **named: Any) -> float:
        measured.append(config)
        return measure_step(config, *settings, **named)

    monkeypatch.setattr("fss.training.few_shot.cost_estimate.measure_step", measure)
    small = ["--backbone", "timm:test_resnet.r160_in1k", "--image-size", 96, "--width", 32, "--steps", 10]
    words = ["doctor", "--photographs", tmp_path / "photos", "--workdir", tmp_path, *small]
    assert ends(*words) == 0
    assert [(each.frozen, each.width) for each in measured] == [(True, 32)], "the main job's backbone is pretrained"
    output = capsys.readouterr().out
    assert all(
        words in output
        for words in ("torch", "free disk ", "disk needed", "MLflow", "pseudo-masks", "on one CPU (10 steps of 16")
    )
    assert ends(*words, "--steps", 10**9) == 3
    assert "that is long: use a GPU, a lighter --backbone" in " ".join(capsys.readouterr().out.replace("│", "").split())


@pytest.mark.parametrize(("load", "busy"), [(0.0, False), (1000.0, True)])
def test_the_doctor_warns_about_a_busy_machine(
    load: float, busy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    assert ends("doctor", "--workdir", tmp_path) == 0
    assert ("come out too long" in capsys.readouterr().out) == busy


def test_the_doctor_reports_problems(
    s3: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends("doctor", "--s3", s3, "--tracking", "sqlite:///nowhere/mlflow.db") == 3
    output = capsys.readouterr().out
    assert f"{s3} answers" in output
    assert "cannot be written" in output
    assert ends("doctor", "--s3", f"{s3}-other", "--tracking", "http://me:secret@127.0.0.1:9") == 3
    output = capsys.readouterr().out
    assert "there is no bucket" in output
    assert "does not answer" in output
    assert "secret" not in output
    for uri, cause in (("mlruns", "give a SQLite file (sqlite:///mlflow.db) or a server"), ("ftp://me:secret@x", "")):
        assert ends("doctor", "--tracking", uri) == 3
        output = " ".join(capsys.readouterr().out.split())
        assert cause in output and "not checked" not in output and "secret" not in output
