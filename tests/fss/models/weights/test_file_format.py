"""Files that people give instead of weights: every reader names what came in one line, with what to do."""

import gzip
import io
import json
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save

from fss.models import create_segmenter, load_checkpoint, load_published, save_checkpoint
from fss.models.backbones.base import MapSelection
from fss.models.backbones.factory import create_backbone
from fss.models.saliency.network import load_student
from fss.models.semantic.checkpoint import load_semantic, save_semantic
from fss.models.semantic.config import SemanticConfig
from fss.models.semantic.network import build_semantic
from fss.models.weights.reading import check_weights_file, open_weights
from fss.saliency.vit import ViTEstimator

LAST = MapSelection(keep=("none", "last", "last", "last"))
STATE = {"conv1.weight": torch.ones(40, 50)}


def torch_bytes(value: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def zip_bytes(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"data")
    return file.getvalue()


def tar_bytes() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("run/resnet50.pth"))
    return file.getvalue()


def script_bytes() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    return file.getvalue()


def onnx_bytes() -> bytes:
    graph = onnx.helper.make_graph([], "graph", [], [])
    return onnx.helper.make_model(graph, producer_name="pytorch").SerializeToString()


def npz_bytes() -> bytes:
    file = io.BytesIO()
    np.savez(file, conv1=np.ones(3))
    return file.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 102400\n"
KINDS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", r"is empty \(0 bytes\); .*get it again"),
    "web page": (
        b"\n<!DOCTYPE html><html><title>Quota\nexceeded</title>",
        r"web page \(HTML\) titled 'Quota exceeded'",
    ),
    "bare web page": (b"<html>quota exceeded</html>", r"web page \(HTML\); .*download the file itself"),
    "refusal": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is XML, .*AccessDenied"),
    "answer": (b'{"error": "not found", "status": 404}', "JSON text with the top-level keys error, status"),
    "index": (json.dumps({"weight_map": {"a": "1"}}).encode(), "the index of weights in several files"),
    "git-lfs": (LFS, r"git-lfs pointer .*102,400 bytes.*run `git lfs pull --include weights"),
    "git-annex": (b"/annex/objects/SHA256E-s97--4d7a.pth\n", "git-annex pointer .*run `git annex get weights"),
    "dvc": (b"outs:\n- md5: 4d7a\n  path: resnet50.pth\n", "DVC pointer .*run `dvc pull"),
    "text": (b"see the wiki", r"is text \(it begins with 'see the wiki'\)"),
    "Latin text cut in a letter": ("ü".encode() * 4000, "is text"),
    "torch zip in part": (torch_bytes(STATE)[:4000], "zip archive without its end.*get it again"),
    "torch pickle in part": (torch_bytes(STATE, _use_new_zipfile_serialization=False)[:300], "damaged torch file"),
    "another protocol": (torch_bytes({"a": "b" * 99}, pickle_protocol=4), "another pickle protocol .*torch.save"),
    "pickle": (pickle.dumps({"a": 1}), r"Python pickle .*torch\.save\(model\.state_dict\(\)"),
    "old pickle": (pickle.dumps({"a": 1}, protocol=2), "Python pickle"),
    "TorchScript": (script_bytes(), r"TorchScript archive.*torch\.jit\.load\('weights.*'\)\.state_dict\(\)"),
    "zip": (zip_bytes("a/x.txt", "a/resnet50.pth"), r"zip archive of a/x\.txt, a/resnet50\.pth; unpack it"),
    "exported program": (zip_bytes("p/archive_format", "p/models/model.json"), r"program of torch\.export"),
    "Keras 3": (zip_bytes("config.json", "model.weights.h5"), "Keras model"),
    "NumPy archive": (npz_bytes(), r"NumPy archive \(\.npz\) of conv1\.npy"),
    "NumPy array": (b"\x93NUMPY\x01\x00" + bytes(99), "NumPy array"),
    "tar": (tar_bytes(), r"tar archive of run/resnet50\.pth; unpack it with tar"),
    "gzip": (gzip.compress(b"x" * 99), "gzip archive; unpack it"),
    "Keras": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5 file, such as Keras writes; give weights of PyTorch"),
    "ONNX": (onnx_bytes(), "ONNX model"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), "PNG picture"),
    "safetensors in part": (save(STATE)[:-8], r"damaged safetensors file: it has [\d,]+ of [\d,]+ bytes"),
    "header in part": (save({f"a.long.name.{i}": torch.ones(1) for i in range(9)})[:60], "cut off in its header"),
    "header of nonsense": ((20).to_bytes(8, "little") + b"{" + b"x" * 40, "safetensors file with a damaged header"),
    "bytes": (b"\x00\xff" * 50, r"no known format \(it begins with 00 ff"),
}
"""What people give instead of weights, and what they are told."""


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_named(tmp_path: Path, kind: str, suffix: str) -> None:
    data, message = KINDS[kind]
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        open_weights(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    assert not any(word in str(caught.value) for word in ("weights_only", "safe_globals", "trust"))
    with pytest.raises(ValueError, match="holds no safetensors"):
        open_weights(file, safetensors_only=True)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_the_content_decides_not_the_ending(tmp_path: Path, options: dict[str, bool]) -> None:
    for name, data in {
        "torch.safetensors": torch_bytes(STATE, **options),
        "st.pth": save(STATE),
        "none": save(STATE),
    }.items():
        (tmp_path / name).write_bytes(data)
        check_weights_file(tmp_path / name)
        assert torch.equal(open_weights(tmp_path / name).content["conv1.weight"], STATE["conv1.weight"])


def test_paths_without_a_file_behind_them(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "resnet50.pth").touch()
    (tmp_path / "run" / "notes.txt").touch()
    (tmp_path / "annexed.pth").symlink_to("../.git/annex/objects/Zq/0k/SHA256E-s97--4d7a.pth/SHA256E-s97--4d7a.pth")
    (tmp_path / "dangling.pth").symlink_to("/nowhere/blob")
    for name, message in {
        "run": r"is a folder \(resnet50\.pth\); give the path of a weights file in it",
        "annexed.pth": r"git-annex link .*run `git annex get annexed\.pth`",
        "dangling.pth": "a link to /nowhere/blob, which does not exist",
        "absent.pth": "there is no weights file",
    }.items():
        for read in (open_weights, check_weights_file):
            with pytest.raises(ValueError, match=message):
                read(tmp_path / name)
    with pytest.raises(ValueError, match="use a local path, file:// or s3://"):
        open_weights("https://example.org/resnet50.pth")


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Callable[[Path], object], Path]]:
    """Every way to open weights, and the file that it opens; load_segmenter and the jobs call these."""
    home = tmp_path_factory.mktemp("readers")
    segmenter = create_segmenter(backbone="timm:test_resnet.r160_in1k", width=32)
    semantic = SemanticConfig(network="lraspp", backbone="mobilenet_v2", stride=16)
    save_checkpoint(segmenter, home / "checkpoint")
    save_semantic(build_semantic(semantic, classes=3), home / "semantic", class_ids=(0, 1, 2))
    file, vit = home / "weights.pth", "test_vit.r160_in1k"
    published = {"learner": "masksplit", "masking": "none", "backbone": "resnet50"}
    return {
        "backbone": (lambda path: create_backbone("resnet18", LAST, backbone_weights=path), file),
        "timm backbone": (lambda path: create_backbone(segmenter.config.backbone, LAST, backbone_weights=path), file),
        "semantic backbone": (
            lambda path: build_semantic(
                SemanticConfig(backbone="mobilenet_v2", network="lraspp", backbone_weights=path), classes=3
            ),
            file,
        ),
        "published": (lambda path: load_published(path, **published), file),
        "transformer": (lambda path: ViTEstimator(vit, weights=path, image_size=160), file),
        "student": (load_student, file),
        "checkpoint": (lambda path: load_checkpoint(path.parent), home / "checkpoint" / "model.safetensors"),
        "semantic": (lambda path: load_semantic(path.parent), home / "semantic" / "model.safetensors"),
    }


READERS = (
    "backbone",
    "timm backbone",
    "semantic backbone",
    "published",
    "transformer",
    "student",
    "checkpoint",
    "semantic",
)


def test_a_timm_backbone_loads_from_a_checkpoint(tmp_path: Path) -> None:
    segmenter = create_segmenter(backbone="timm:test_resnet.r160_in1k", width=32, seed=3)
    file = save_checkpoint(segmenter, tmp_path / "checkpoint") / "model.safetensors"
    loaded = create_backbone(segmenter.config.backbone, LAST, backbone_weights=file).state_dict()
    for name, value in segmenter.backbone.state_dict().items():
        assert torch.equal(loaded[name], value)


@pytest.mark.filterwarnings("ignore:the checkpoint holds no backbone")
@pytest.mark.parametrize("name", READERS)
def test_every_reader_names_what_came(readers: dict[str, Any], name: str) -> None:
    assert set(readers) == set(READERS)
    read, file = readers[name]
    for kind in ("web page", "git-lfs", "nothing", "torch zip in part", "safetensors in part", "Keras", "pickle"):
        data, message = KINDS[kind]
        file.write_bytes(data)
        with pytest.raises(ValueError, match=message.replace("include weights", f"include {file.stem}")) as caught:
            read(file)
        assert "\n" not in str(caught.value)
    file.write_bytes(save({"query.weight": torch.ones(3)}))
    with pytest.raises(ValueError, match=r"do not fit|holds other weights") as caught:
        read(file)
    assert "query" in str(caught.value) and len(str(caught.value)) < 1500
