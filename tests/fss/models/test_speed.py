"""The fast path: fused convolutions give the maps of the trained backbone, or are not taken."""

import copy
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fss.evaluation.methods import SegmenterMethod
from fss.inference.predictor import Predictor
from fss.models import (
    FewShotSegmenter,
    SegmenterConfig,
    create_segmenter,
    load_checkpoint,
    precision,
    save_checkpoint,
)
from fss.models.backbones.base import Backbone, MapSelection
from fss.models.backbones.factory import create_backbone
from fss.models.config import Precision
from fss.models.layers.fused_conv import FusedConv
from fss.models.learners.masksplit import MaskSplit
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent, save_student
from fss.models.semantic.checkpoint import save_semantic
from fss.models.semantic.config import SemanticConfig
from fss.models.semantic.network import build_semantic
from fss.models.speed import BackbonePath, prepare_inference, prepare_training
from tests.helpers.machine import needs_bfloat16

IMAGES = torch.randn(1, 3, 65, 48, generator=torch.Generator().manual_seed(1))
ALL, LAST = MapSelection(keep=("all",) * 4), MapSelection(keep=("none", "none", "last", "last"), activated=True)


class Network(nn.Module):
    """A network with a backbone whose BatchNorm statistics are not those of a new one."""

    def __init__(self, name: str, selection: MapSelection) -> None:
        super().__init__()
        self.backbone: Backbone = create_backbone(name, selection).eval()
        generator = torch.Generator().manual_seed(0)
        for norm in (m for m in self.modules() if isinstance(m, nn.BatchNorm2d)):
            for values, low, high in ((norm.running_mean, -0.2, 0.2), (norm.running_var, 0.5, 1.5)):
                assert values is not None
                values.uniform_(low, high, generator=generator)
            norm.weight.data.uniform_(0.3, 0.9, generator=generator)
            norm.bias.data.uniform_(-0.2, 0.2, generator=generator)

    @torch.no_grad()
    def maps(self) -> list[torch.Tensor]:
        return [each for stage in self.backbone(IMAGES) for each in stage]


every_path = pytest.mark.parametrize(
    ("name", "selection", "path"),
    [
        ("resnet18", ALL, "oneDNN"),
        ("resnet18", LAST, "oneDNN"),
        pytest.param("resnet50", ALL, "oneDNN", marks=pytest.mark.slow),
        ("resnet50_deepstem", MapSelection(keep=LAST.keep, activated=True, dilated=True), "oneDNN"),
        ("mobilenet_v2", ALL, "oneDNN"),
        ("squeezenet1_1", ALL, "PyTorch"),
        ("timm:test_resnet.r160_in1k", ALL, "PyTorch"),
    ],
)


@every_path
def test_the_maps_stay_the_same_but_for_rounding(name: str, selection: MapSelection, path: str) -> None:
    network = Network(name, selection)
    expected = network.maps()
    assert prepare_inference(network).name == path
    for fused, before in zip(network.maps(), expected, strict=True):
        torch.testing.assert_close(fused, before, rtol=0, atol=1e-5 * float(before.abs().max()))
        assert fused.dtype == torch.float32


@needs_bfloat16
@every_path
def test_a_fused_backbone_runs_in_bfloat16_and_another_under_autocast(
    name: str, selection: MapSelection, path: str
) -> None:
    network = Network(name, selection)
    expected, chosen = network.maps(), prepare_inference(network, "bf16")
    if path == "PyTorch":
        assert chosen == BackbonePath(name="PyTorch", autocast="bf16")
        return
    assert chosen == BackbonePath(name="oneDNN, bf16 backbone", autocast="fp32")
    for rounded, before in zip(network.maps(), expected, strict=True):
        assert rounded.dtype == torch.float32 and not torch.equal(rounded, before)
        assert torch.cosine_similarity(rounded.flatten(), before.flatten(), 0) > 0.999


def test_a_cpu_without_bfloat16_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    for prepare in (prepare_inference, prepare_training):
        segmenter = create_segmenter(backbone="mobilenet_v2", image_size=96, width=32, frozen=True)
        with pytest.raises(ValueError, match=r"bf16 needs a CPU with AVX-512.*give --precision fp32"):
            prepare(segmenter, "bf16")
    for asked, device in (("bf16", "cpu"), ("tf32", "cpu"), ("tf32", "mps")):
        with pytest.raises(ValueError, match=f"the precision {asked} .*give --precision fp32"):
            precision.require_precision(asked, device)  # type: ignore[arg-type]
        precision.require_precision(asked, "cuda")  # type: ignore[arg-type]


def test_other_maps_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network("resnet18", LAST)
    expected = network.maps()
    monkeypatch.setattr(FusedConv, "add", lambda self, x, other, *, relu: self(x) + other)  # forgets the ReLU
    assert prepare_inference(network).name == "PyTorch"
    assert all(map(torch.equal, network.maps(), expected))


def test_threads_sizes_and_copies_share_a_fused_network() -> None:
    segmenter = create_segmenter(backbone="mobilenet_v2", image_size=96, width=32).eval()
    batches = [
        (torch.randn(1, 3, s, s), torch.randn(1, 1, 3, s, s), torch.ones(1, 1, s, s).tril()) for s in (80, 96, 112)
    ]
    with torch.no_grad():
        before = [segmenter(*batch) for batch in batches]
        prepare_inference(segmenter)
        once = [segmenter(*batch) for batch in batches]
        copied = copy.deepcopy(segmenter)
    for logits, plain in zip(once, before, strict=True):
        torch.testing.assert_close(logits, plain, rtol=1e-4, atol=1e-4)

    def run(number: int) -> bool:
        with torch.no_grad():
            network = copied if number % 2 else segmenter
            return torch.equal(network(*batches[number % 3]), once[number % 3])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(24)))


def test_a_network_or_a_prior_that_is_prepared_already_only_takes_the_precision() -> None:
    network = Network("mobilenet_v2", LAST)
    prepare_inference(network)
    fused, maps = network.backbone, network.maps()
    if precision.cpu_has_bfloat16():
        assert prepare_inference(network, "bf16").name == "oneDNN, bf16 backbone"
        assert not torch.equal(network.maps()[0], maps[0])
    assert prepare_inference(network).name == "oneDNN" and network.backbone is fused
    assert all(map(torch.equal, network.maps(), maps))
    prior = SaliencyStudent(StudentConfig(backbone="mobilenet_v2", image_size=64))
    settings = SegmenterConfig(backbone="mobilenet_v2", image_size=96, width=32, density_prior=True)
    segmenters = [FewShotSegmenter.from_config(settings, prior=prior).eval() for _ in range(2)]
    assert [prepare_inference(each).name for each in segmenters] == ["oneDNN", "oneDNN"]


def test_what_a_predictor_or_an_evaluation_was_given_can_still_be_trained_and_saved(tmp_path: Path) -> None:
    prior = SaliencyStudent(StudentConfig(backbone="mobilenet_v2", image_size=64))
    settings = SegmenterConfig(backbone="mobilenet_v2", image_size=96, width=32, density_prior=True)
    given = FewShotSegmenter.from_config(settings, prior=prior)
    weights = {name: value.clone() for name, value in given.state_dict().items()}
    method = SegmenterMethod(given, name="model")
    method.prepare()
    for prepared in (Predictor(given).segmenter, method.segmenter):
        assert prepared.backbone.fused and prepared.prior is not None and prepared.prior.backbone.fused
        for use in (prepared.train, partial(save_checkpoint, prepared, tmp_path / "lost")):
            with pytest.raises(ValueError, match=r"prepared for inference, and can be neither trained nor saved; load"):
                use()
    alone = SaliencyStudent(StudentConfig(backbone="mobilenet_v2", image_size=64)).eval()
    semantic = build_semantic(SemanticConfig(network="lraspp", backbone="mobilenet_v2", stride=16), classes=3).eval()
    for network, save in (
        (alone, partial(save_student, alone, tmp_path / "lost", metadata={})),
        (semantic, partial(save_semantic, semantic, tmp_path / "lost", class_ids=(1, 2, 3))),
    ):
        prepare_inference(network)
        with pytest.raises(ValueError, match="prepared for inference, and can be neither trained nor saved"):
            save()
    assert not (tmp_path / "lost").exists()
    loaded = load_checkpoint(save_checkpoint(given.train(), tmp_path / "model")).state_dict()
    assert loaded.keys() == weights.keys() and all(torch.equal(loaded[name], weights[name]) for name in weights)


@pytest.mark.parametrize(("asked", "tolerance"), [("fp32", 1e-5), pytest.param("bf16", 2e-2, marks=needs_bfloat16)])
def test_a_frozen_backbone_is_computed_by_a_fused_copy_in_training(
    asked: Precision, tolerance: float, tmp_path: Path
) -> None:
    segmenter = create_segmenter(backbone="mobilenet_v2", image_size=96, width=32, frozen=True)
    batch = (torch.randn(1, 3, 96, 96), torch.randn(1, 1, 3, 96, 96), torch.ones(1, 1, 96, 96).tril())
    maps, before = segmenter.backbone(batch[0]), {name: value.clone() for name, value in segmenter.state_dict().items()}
    assert prepare_training(segmenter, asked).autocast == "fp32"
    segmenter.train()(*batch).sum().backward()
    copied = segmenter.backbone(batch[0])
    for fast, plain in zip(chain(*copied), chain(*maps), strict=True):
        assert not fast.requires_grad and not torch.equal(fast, plain)
        assert float((fast - plain).norm() / plain.norm()) < tolerance
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())
    save_checkpoint(segmenter, tmp_path)
    assert torch.equal(copy.deepcopy(segmenter).backbone(batch[0])[2][0], maps[2][0])  # a copy has its own path
    segmenter.backbone.freeze()
    assert torch.equal(segmenter.backbone(batch[0])[2][0], maps[2][0])


@pytest.mark.parametrize("changing", [{"frozen": False}, {"frozen": True, "drifting_batchnorm": True}])
def test_a_backbone_that_changes_in_training_is_not_copied(changing: dict[str, bool]) -> None:
    segmenter = create_segmenter(backbone="mobilenet_v2", image_size=96, width=32, **changing)
    assert prepare_training(segmenter, "bf16") == BackbonePath(name="PyTorch", autocast="bf16")
    with pytest.raises(ValueError, match="frozen backbones only"):
        segmenter.backbone.compute_by(segmenter.backbone)


@pytest.mark.parametrize("settings", [{}, {"similarity": True}, {"density_prior": True}])
@pytest.mark.parametrize("shots", [1, 2])
def test_constant_prototypes_are_convolved_once(
    settings: dict[str, bool], shots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = create_segmenter(backbone="mobilenet_v2", image_size=96, width=32, **settings).double().eval()
    masks = torch.zeros(2, shots, 96, 112, dtype=torch.float64)
    masks[..., 20:70, 30:] = 1
    images = torch.randn(2, 1 + shots, 3, 96, 112, dtype=torch.float64)
    parameters = list(segmenter.learner.parameters())

    def logits_and_gradients() -> list[torch.Tensor]:
        logits = segmenter(images[:, 0], images[:, 1:], masks)
        return [logits, *torch.autograd.grad(logits.square().mean(), parameters)]

    def join_everywhere(learner: MaskSplit, maps: Any, prototypes: Any, others: Any) -> torch.Tensor:
        beside = [part for m, p in zip(maps, prototypes, strict=True) for part in (m, p.expand_as(m))]
        return learner.dense_conv(torch.cat([*beside, *others], 1))  # type: ignore[no-any-return]

    got = logits_and_gradients()
    monkeypatch.setattr(MaskSplit, "_join", join_everywhere)
    for ours, plain in zip(got, logits_and_gradients(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-9)
