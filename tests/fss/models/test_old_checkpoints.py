"""Checkpoints that version 0.1 wrote: their settings had other names, and lacked some."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fss.models.checkpoint import load_checkpoint, read_description, save_checkpoint
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent, load_student, save_student
from fss.models.segmenter import create_segmenter
from fss.models.semantic.checkpoint import load_semantic, save_semantic
from fss.models.semantic.config import SemanticConfig
from fss.models.semantic.network import build_semantic

SEGMENTER = {
    "learner": "masksplit",
    "masking": "none",
    "backbone": "timm:test_resnet.r160_in1k",
    "weights": "/data/backbone.pth",
    "image_size": 96,
    "frozen": True,
    "drifting_batchnorm": False,
    "dilated": False,
    "width": 32,
    "similarity": False,
    "benchmark": "pascal",
    "grid": 64,
    "seed": 0,
}
SEMANTIC = {
    "network": "lraspp",
    "backbone": "mobilenet_v2",
    "weights": None,
    "stride": 16,
    "all_dilations": True,
    "pixels": "imagenet",
    "frozen_norm": True,
    "seed": 0,
}
STUDENT = {
    "backbone": "mobilenet_v2",
    "weights": "/data/backbone.pth",
    "image_size": 64,
    "width": 16,
    "frozen": True,
    "seed": 0,
}


@pytest.mark.parametrize("missing", [(), ("similarity", "grid", "drifting_batchnorm")])
def test_an_old_segmenter_loads(tmp_path: Path, missing: tuple[str, ...]) -> None:
    segmenter = create_segmenter(backbone=SEGMENTER["backbone"], image_size=96, width=32, frozen=True)
    save_checkpoint(segmenter, tmp_path)
    old = {name: value for name, value in SEGMENTER.items() if name not in missing}
    (tmp_path / "segmenter.json").write_text(json.dumps({"segmenter": old, "step": 7}))
    loaded = load_checkpoint(tmp_path)
    assert loaded.config.backbone_weights == "/data/backbone.pth" and loaded.config.image_size == 96
    assert all(torch.equal(value, segmenter.state_dict()[name]) for name, value in loaded.state_dict().items())
    description = read_description(tmp_path)
    assert description["step"] == 7 and "weights" not in description["segmenter"]


def test_an_old_semantic_network_loads(tmp_path: Path) -> None:
    config = SemanticConfig(network="lraspp", backbone="mobilenet_v2", stride=16)
    network = build_semantic(config, classes=3, auxiliary="deep")
    save_semantic(network, tmp_path, class_ids=(0, 1, 2))
    description = {"network": SEMANTIC | {"weights": "pretrained"}, "auxiliary": "deep", "class_ids": [0, 1, 2]}
    (tmp_path / "semantic.json").write_text(json.dumps(description))
    loaded, _ = load_semantic(tmp_path)
    assert loaded.config.backbone_weights == "pretrained"
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_an_old_student_loads(tmp_path: Path) -> None:
    student = SaliencyStudent(StudentConfig(image_size=64, width=16))
    file = tmp_path / "student.safetensors"
    save_student(student, file, metadata={})
    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["student"])
    header = {"config": STUDENT, "record": header["record"]}
    save_file(load_file(file), file, metadata={"student": json.dumps(header)})
    loaded = load_student(file)
    assert loaded.config == StudentConfig(image_size=64, width=16, seed=0)
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in loaded.state_dict().items())
