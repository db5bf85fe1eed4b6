"""The checkpoint of a training holds a frozen backbone once, and a resumed network has it."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray.train
import torch

from fss.models import create_segmenter, save_checkpoint
from fss.training.few_shot.config import OptimizerConfig
from fss.training.few_shot.loop import TrainLoop
from pipelines.runtime.train_worker import PROGRESS, STATE, resume, write_state
from pipelines.training.worker import MODEL


def loop(seed: int) -> TrainLoop:
    network = create_segmenter(
        learner="masksplit", width=32, backbone="timm:test_resnet.r160_in1k", frozen=True, seed=seed
    )
    return TrainLoop(network, SimpleNamespace(image_size=96, steps_per_epoch=1), OptimizerConfig())  # type: ignore[arg-type]


def test_a_frozen_backbone_comes_from_the_checkpoints_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = loop(0), loop(1)
    write_state(tmp_path, first, {"step": 0})
    with first.ema.applied(first.segmenter):
        save_checkpoint(first.segmenter, tmp_path / MODEL)  # type: ignore[arg-type]
    assert not any("backbone" in name for name in torch.load(tmp_path / STATE)["model"])
    assert (tmp_path / PROGRESS).is_file()
    checkpoint = SimpleNamespace(path="there", as_directory=lambda: nullcontext(tmp_path))
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: checkpoint)
    assert resume(second, model=MODEL)["segmenter"]["learner"] == "masksplit"
    for name, value in first.segmenter.state_dict().items():
        assert torch.equal(second.segmenter.state_dict()[name], value), name
