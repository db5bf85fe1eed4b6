"""Backbones return the maps that the published networks use."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import vgg

from fss.models.backbones.base import MapSelection
from fss.models.backbones.factory import backbone_names, create_backbone

EVERY = MapSelection(keep=("last", "all", "all", "all"))
ACTIVATED = MapSelection(keep=("none", "last", "last", "last"), activated=True)
IMAGE = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def flat(features):
    return [m for stage in features for m in stage]


def plain_network(name):
    torch.manual_seed(3)
    network = getattr(torchvision.models, name)(weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    return network


def loaded(name, selection, network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    return create_backbone(name, selection, backbone_weights=tmp_path / "weights.pth").freeze().eval()


def test_resnet_blocks_come_before_their_last_relu(tmp_path):
    network, sums = plain_network("resnet50"), []
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in layer:
            block.bn3.register_forward_hook(lambda m, i, o: sums.append(o.clone()))
            block.register_forward_hook(
                lambda m, i, o: sums.append(sums.pop() + (i[0] if m.downsample is None else m.downsample(i[0])))
            )
    with torch.no_grad():
        network(IMAGE)
        features = loaded("resnet50", EVERY, network, tmp_path)(IMAGE)
    assert [len(stage) for stage in features] == [1, 4, 6, 3]
    for got, expected in zip(flat(features), sums[2:], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        assert (got < 0).any()


def test_vgg_maps_come_before_their_relu_and_end_with_a_pool(tmp_path):
    torch.manual_seed(3)
    network = nn.Module()
    network.features = vgg.make_layers(vgg.cfgs["D"])
    x, maps = IMAGE, {}
    with torch.no_grad():
        for i, module in enumerate(network.features):
            x = module(x.clone())
            maps[i] = x.clone()
        features = loaded("vgg16", EVERY, network, tmp_path)(IMAGE)
        activated = loaded("vgg16", ACTIVATED, network, tmp_path)(IMAGE)
    for got, index in zip(flat(features), (14, 17, 19, 21, 24, 26, 28, 30), strict=True):
        torch.testing.assert_close(got, maps[index])
    for got, index in zip(flat(activated), (22, 29, 30), strict=True):
        torch.testing.assert_close(got, maps[index])


def test_dilation_keeps_the_grid_and_touches_every_block():
    backbone = create_backbone("resnet50_deepstem", MapSelection(keep=ACTIVATED.keep, activated=True, dilated=True))
    assert [tuple(m.shape[1:]) for m in flat(backbone.eval()(IMAGE))] == [(512, 12, 12), (1024, 12, 12), (2048, 12, 12)]
    assert {block.conv2.dilation for block in backbone.layer3} == {(2, 2)}
    assert {block.conv2.dilation for block in backbone.layer4} == {(4, 4)}


@pytest.mark.parametrize(
    ("name", "counts"), [("mobilenet_v2", [1, 3, 7, 4]), ("squeezenet1_1", [1, 2, 4, 1]), ("resnet18", [1, 2, 2, 2])]
)
def test_small_backbones_fill_the_correlation_levels(name, counts):
    backbone = create_backbone(name, EVERY)
    features = backbone.eval()(IMAGE)
    assert [len(stage) for stage in features] == counts
    assert [tuple(m.shape[1] for m in stage) for stage in features] == list(backbone.channels)
    sides = [stage[-1].shape[-1] for stage in features]
    assert all(0.6 * 96 / r <= side <= 96 / r for side, r in zip(sides, (4, 8, 16, 32), strict=True))


def test_timm_names_work_and_unknown_names_list_the_known_ones():
    backbone = create_backbone("timm:mobilenetv3_small_050", ACTIVATED)
    assert [stage[-1].shape[-1] for stage in backbone.eval()(IMAGE)[1:]] == [12, 6, 3]
    with pytest.raises(ValueError, match=r"mobilenet_v2.*resnet50"):
        create_backbone("resnet5000", EVERY)
    with pytest.raises(ValueError, match="cannot be used as a feature pyramid"):
        create_backbone("test_mambaout", MapSelection(keep=EVERY.keep, dilated=True))
    assert {"resnet18", "resnet101_deepstem", "vgg16", "mobilenet_v2"} <= set(backbone_names())


def test_a_frozen_backbone_keeps_its_statistics_unless_they_may_drift():
    backbone = create_backbone("mobilenet_v2", ACTIVATED).freeze()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone.train()
    assert not any(m.requires_grad for m in flat(backbone(IMAGE)))
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())
    backbone.freeze(drifting_batchnorm=True).train()(IMAGE)
    assert not all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())


def test_a_trainable_backbone_takes_gradients():
    backbone = create_backbone("resnet18", ACTIVATED).train()
    sum(m.square().mean() for m in flat(backbone(torch.randn(2, 3, 96, 96)))).backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_weights_that_do_not_fit_are_named(tmp_path):
    state = torchvision.models.resnet18().state_dict()
    state["layer1.0.conv9.weight"] = state.pop("layer1.0.conv1.weight")
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"missing: layer1\.0\.conv1\.weight; 1 unexpected: layer1\.0\.conv9\.weight"):
        create_backbone("resnet18", EVERY, backbone_weights=tmp_path / "w.pth")
    with pytest.raises(ValueError, match="there is no weights file"):
        create_backbone("resnet18", EVERY, backbone_weights=tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="has no weights for resnet101_deepstem"):
        create_backbone("resnet101_deepstem", EVERY, backbone_weights="pretrained")


def test_a_deep_stem_written_as_three_convolutions_loads(tmp_path):
    backbone = create_backbone("resnet50_deepstem", ACTIVATED)
    names = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}
    state = {}
    for key, value in backbone.state_dict().items():
        parts = key.split(".")
        state[".".join([names[parts[1]], *parts[2:]]) if parts[0] == "layer0" else key] = value
    torch.save(state, tmp_path / "w.pth")
    again = create_backbone("resnet50_deepstem", ACTIVATED, backbone_weights=tmp_path / "w.pth", seed=9)
    assert torch.equal(again.layer0[3].weight, backbone.layer0[3].weight)


def test_the_seed_decides_the_random_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    first, second = create_backbone("resnet18", EVERY, seed=1), create_backbone("resnet18", EVERY, seed=2)
    value_after_creation = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(value_after_creation, torch.rand(1))
    again = create_backbone("resnet18", EVERY, seed=1)
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, second.conv1.weight)
