"""Semantic networks: sizes of the published heads, which layers learn, shapes, initial weights, checkpoints."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fss.models.semantic.checkpoint import load_semantic, save_semantic
from fss.models.semantic.config import SemanticConfig
from fss.models.semantic.heads import DeepLabV2Head, build_auxiliary_stage
from fss.models.semantic.network import SemanticNetwork, build_semantic, start_from

LIGHT = SemanticConfig(network="lraspp", backbone="mobilenet_v2", stride=16)


def size(module: nn.Module | None) -> float:
    """Millions of parameters."""
    assert module is not None
    return round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 2)


def pictures(count: int = 2, side: int = 48) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_published_network_has_its_published_size() -> None:
    with torch.device("meta"):  # sizes only: drawing forty million weights takes seconds
        deep = build_semantic(SemanticConfig(network="deeplabv2", backbone="resnet101"), classes=21, auxiliary="deep")
        stage, heads = build_auxiliary_stage(1024, 4, published=True), [DeepLabV2Head(n, 22) for n in (1024, 2048)]
    assert size(deep.backbone._layer("layer4")) == 14.96  # type: ignore[operator]
    assert size(deep.auxiliary_stage) == size(stage) == 4.40
    assert size(deep.head) == 1.55
    assert [size(head) for head in heads] == [0.81, 1.62]  # with the released code's unused class


def test_all_four_dilations_learn_and_the_reference_sums_two() -> None:
    high = torch.randn(1, 8, 30, 30, generator=torch.Generator().manual_seed(0))
    head = DeepLabV2Head(8, 3)
    head(high, high).square().sum().backward()
    assert [conv.dilation for conv in head.convs] == [(6, 6), (12, 12), (18, 18), (24, 24)]
    assert all(conv.weight.grad.abs().sum() > 0 for conv in head.convs)
    config = SemanticConfig(network="deeplabv2", backbone="resnet18", all_dilations=False)
    reference = build_semantic(config, classes=3).head
    assert [conv.dilation for conv in reference.convs] == [(6, 6), (12, 12)]
    for mine, theirs in zip(head.convs, DeepLabV2Head(8, 3, (6, 12)).convs, strict=False):
        theirs.load_state_dict(mine.state_dict())
        assert torch.equal(theirs(high), mine(high))
    expected = head.convs[0](high) + head.convs[1](high) + head.convs[2](high) + head.convs[3](high)
    assert torch.allclose(head(high, high), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "backbone"),
    [("deeplabv2", "resnet18"), ("deeplabv3", "resnet18"), ("deeplabv3", "mobilenet_v2"), ("lraspp", "mobilenet_v2")],
)
@pytest.mark.parametrize("auxiliary", ["none", "deep", "shallow"])
def test_every_network_answers_with_every_head(network: str, backbone: str, auxiliary: str) -> None:
    config = SemanticConfig(network=network, backbone=backbone, stride=16)
    model = build_semantic(config, classes=4, auxiliary=auxiliary).train()
    logits = model(pictures(side=41))
    assert logits.main.shape == (2, 4, 41, 41)
    assert (logits.auxiliary is None) == (auxiliary == "none")
    total = logits.main.square().mean() + (0 if logits.auxiliary is None else logits.auxiliary.square().mean())
    total.backward()
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused, "a distributed training would wait for these"


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "mobilenet_v2"])
@pytest.mark.parametrize("stride", [8, 16])
def test_the_output_stride_is_held_by_dilation(backbone: str, stride: int) -> None:
    model = build_semantic(SemanticConfig(backbone=backbone, stride=stride), classes=2)
    with torch.no_grad():
        _, (low,), (shared,), (last,) = model.backbone(torch.zeros(1, 3, 64, 64))
    assert low.shape[-1] == 8 and shared.shape[-1] == last.shape[-1] == 64 // stride


def test_strides_stand_first_in_the_published_layout_alone() -> None:
    for network, first in (("deeplabv2", (2, 2)), ("deeplabv3", (1, 1))):
        with torch.device("meta"):
            model = build_semantic(SemanticConfig(network=network, backbone="resnet50"), classes=2)
        assert model.backbone._layer("layer2")[0].conv1.stride == first


def test_every_stage_starts_from_the_same_initial_weights() -> None:
    networks = [build_semantic(LIGHT, classes=3, auxiliary=name) for name in ("none", "deep", "shallow")]
    first = networks[0].state_dict()
    for other in networks[1:]:
        state = other.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in first.items())


def test_frozen_normalisation_neither_learns_nor_drifts() -> None:
    model = build_semantic(replace(LIGHT, frozen_norm="all"), classes=3, auxiliary="deep").train()
    before = {key: value.clone() for key, value in model.state_dict().items() if "running" in key}
    main, auxiliary = model(pictures())
    (main.sum() + auxiliary.sum()).backward()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all(norm.weight.grad is None and not norm.training for norm in norms)
    assert before and all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    learning = build_semantic(replace(LIGHT, frozen_norm="none"), classes=3).train()
    assert all(module.training for module in learning.modules())


def test_normalisation_of_new_layers_learns_unless_it_is_published_as_fixed() -> None:
    """Fixed at its start, a new layer's normalisation is the identity, as the released code has it for DeepLabV2."""
    for frozen, learns in (("all", False), ("backbone", True)):
        model = build_semantic(replace(LIGHT, frozen_norm=frozen), classes=3).train()
        (norm,) = [module for module in model.head.modules() if isinstance(module, nn.BatchNorm2d)]
        values = torch.randn(4, norm.num_features, 3, 3, generator=torch.Generator().manual_seed(0)) * 5 + 2
        changed = norm(values)
        model(pictures()).main.sum().backward()
        assert torch.allclose(changed, values, atol=1e-3) != learns and norm.training == learns
        assert (norm.weight.grad is not None) == learns
        if learns:
            mean, std = changed.mean((0, 2, 3)), changed.std((0, 2, 3), correction=0)
            assert mean.abs().max() < 1e-5 and torch.allclose(std, torch.ones_like(std), atol=1e-3)
        fixed = [module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
        assert all(not module.training and module.weight.grad is None for module in fixed)


@pytest.mark.parametrize(("backbone", "last"), [("mobilenet_v2", "features.14"), ("resnet18", "layer4.0")])
def test_frozen_stages_stay_fixed_and_their_features_give_the_same_logits(backbone: str, last: str) -> None:
    config = replace(LIGHT, network="deeplabv3", backbone=backbone, frozen_stages=3)
    model = build_semantic(config, classes=3, auxiliary="deep").train()
    names = [name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad]
    assert names and names[0].startswith(last)
    model.eval()
    with torch.no_grad():
        maps, logits = model.lower(pictures(side=64)), model(pictures(side=64))
        assert maps.low.dtype == torch.float16 and maps.size == (64, 64)
        assert all(
            torch.allclose(found, expected, atol=0.02 * float(expected.abs().max()))
            for found, expected in zip(model(maps), logits, strict=True)
        )
    with pytest.raises(ValueError, match="--frozen-stages 0"):
        build_semantic(SemanticConfig(backbone="timm:vit_tiny_patch16_224", stride=16, frozen_stages=1), classes=2)


def test_a_stage_may_start_from_the_main_head_of_the_stage_before() -> None:
    trained = build_semantic(replace(LIGHT, seed=5), classes=3, auxiliary="deep")
    network = build_semantic(LIGHT, classes=3, auxiliary="shallow")
    own = {name: value.clone() for name, value in network.state_dict().items()}
    start_from(network, trained)
    for name, value in network.state_dict().items():
        expected = own[name] if name.startswith("auxiliary") else trained.state_dict()[name]
        assert torch.equal(value, expected), name


def test_new_layers_and_the_backbone_have_rates_of_their_own() -> None:
    model = build_semantic(LIGHT, classes=3, auxiliary="shallow")
    new, old = model.parameter_groups(1e-3, 1e-4)
    assert (new["lr"], old["lr"]) == (1e-3, 1e-4)
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in [*new["params"], *old["params"]]} == trained
    assert {id(p) for p in old["params"]} <= {id(p) for p in model.backbone.parameters()}


def test_a_whole_deeplab_starts_its_classifier_too(tmp_path: Path) -> None:
    config = SemanticConfig(network="deeplabv2", backbone="resnet18", pixels="coco")
    with pytest.raises(ValueError, match="pixels=coco goes with"):
        build_semantic(config, classes=3)
    trained = build_semantic(replace(config, pixels="imagenet", seed=5), classes=3)
    state = {f"Scale.{key}": value for key, value in trained.backbone.state_dict().items()}
    for number, conv in enumerate(trained.head.convs):
        state |= {f"Scale.layer5.conv2d_list.{number}.{key}": value for key, value in conv.state_dict().items()}
    torch.save(state, tmp_path / "coco.pth")
    config = replace(config, backbone_weights=tmp_path / "coco.pth")
    fitting, other = (build_semantic(config, classes=classes) for classes in (3, 4))
    for key, value in trained.backbone.state_dict().items():
        assert torch.equal(value, fitting.backbone.state_dict()[key])
    assert torch.equal(fitting.head.convs[3].weight, trained.head.convs[3].weight)
    assert other.head.convs[3].weight.shape[0] == 4
    assert float(fitting.std.max()) == 1 and float(fitting.mean[0]) == pytest.approx(122.68)


def test_a_checkpoint_answers_alike(tmp_path: Path) -> None:
    model = build_semantic(LIGHT, classes=3, auxiliary="shallow").eval()
    save_semantic(model, tmp_path / "model", class_ids=(0, 4, 7), extra={"step": 3})
    again, description = load_semantic(tmp_path / "model")
    assert isinstance(again, SemanticNetwork) and description["class_ids"] == [0, 4, 7] and description["step"] == 3
    assert torch.equal(again.predict(pictures()), model.predict(pictures()))
    with pytest.raises(ValueError, match="no semantic checkpoint"):
        load_semantic(tmp_path)


def test_other_backbones_are_refused() -> None:
    with pytest.raises(ValueError, match="must be a ResNet or mobilenet_v2"):
        build_semantic(SemanticConfig(backbone="squeezenet1_1"), classes=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [("network", 7), ("auxiliary", True), ("class_ids", []), ("class_ids", ["0"]), ("class_ids", None)],
)
def test_a_checkpoint_with_an_invalid_description_is_refused(tmp_path: Path, name: str, value: object) -> None:
    network = build_semantic(SemanticConfig(network="lraspp", backbone="mobilenet_v2"), classes=2)
    folder = save_semantic(network, tmp_path / "model", class_ids=[0, 4])
    file = tmp_path / "model" / "semantic.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    with pytest.raises(ValueError, match=name):
        load_semantic(folder)
