"""Plain vision transformers: maps, positions, padding, weights, semantic networks and exports."""

import logging
from functools import lru_cache

import pytest
import timm
import torch
from torch.nn import functional as F

from fss.inference.export import export_segmenter
from fss.models import create_segmenter
from fss.models.backbones.base import MapSelection
from fss.models.backbones.factory import create_backbone
from fss.models.backbones.token_grid import resample_tokens
from fss.models.backbones.vit import divide_blocks
from fss.models.config import SegmenterConfig
from fss.models.registry import resolve_defaults
from fss.models.semantic.checkpoint import load_semantic, save_semantic
from fss.models.semantic.config import SemanticConfig
from fss.models.semantic.network import build_semantic
from fss.models.speed import prepare_inference
from fss.models.weights.state_dict import log_once
from tests.helpers.segmenter_contract import check_contract, episode, make
from tests.helpers.vits import CLIP_MEAN, CLIP_STD, SMALL_VITS

EVERY = MapSelection(keep=("last", "all", "all", "all"))
IMAGES = torch.randn(2, 3, 112, 100, generator=torch.Generator().manual_seed(0))
MASKINGS = ("none", "feature", "input", "hybrid")


@lru_cache
def backbone(name, selection=EVERY):
    return create_backbone(f"timm:{name}", selection).freeze().eval()


@pytest.mark.parametrize("name", [*SMALL_VITS, "test_vit", "test_vit3", "test_vit4"])
def test_blocks_fill_the_stages_at_the_cells_of_a_convolutional_network(name):
    network = backbone(name)
    features = network(IMAGES)
    assert [tuple(stage[-1].shape[-2:]) for stage in features] == [(28, 25), (14, 13), (7, 7), (4, 4)]
    assert [tuple(m.shape[1] for m in stage) for stage in features] == list(network.channels)
    assert all(m.isfinite().all() and m.std() > 0.01 for stage in features for m in stage)
    twice = network(torch.cat([IMAGES, IMAGES]))[3][-1]
    torch.testing.assert_close(twice[2:], features[3][-1], rtol=1e-4, atol=1e-5)


def test_the_blocks_are_divided_evenly():
    assert divide_blocks(12) == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11)]
    assert [len(blocks) for blocks in divide_blocks(9)] == [3, 2, 2, 2]
    assert divide_blocks(2) == [(0,), (0,), (1,), (1,)]


@pytest.mark.parametrize("patch", [8, 14, 16, 32])
@pytest.mark.parametrize("cells", [(50, 38), (25, 19), (13, 10)])
def test_a_map_says_at_each_cell_what_is_at_its_pixel(patch, cells):
    """Tokens that hold the position of their own centre become maps of the positions of their cells."""
    size = (397, 301)
    grid = [-(-side // patch) for side in size]
    centres = torch.meshgrid(*((torch.arange(n) + 0.5) * patch - 0.5 for n in grid), indexing="ij")
    maps = resample_tokens(torch.stack(centres)[None], patch, size, cells)[0]
    pixels = torch.meshgrid(*(torch.linspace(0, s - 1, n) for s, n in zip(size, cells, strict=True)), indexing="ij")
    # Cells nearer to an edge than half a patch, or than the width of their mean, have no tokens on both sides.
    margin = [1 + int(max(patch, (s - 1) / (n - 1)) / ((s - 1) / (n - 1))) for s, n in zip(size, cells, strict=True)]
    inner = tuple(slice(m, -m) for m in margin)
    for got, expected in zip(maps, pixels, strict=True):
        torch.testing.assert_close(got[inner], expected[inner], rtol=0, atol=0.2 * patch)
        assert (got - expected).abs().max() <= max(patch, size[0] / cells[0] / 2)


@pytest.mark.parametrize("name", ["fss_patch14_registers", "fss_patch16_windows"])
def test_padding_is_told_once_and_moves_nothing(name, caplog):
    log_once.cache_clear()
    network, patch = backbone(name), backbone(name).patch
    whole = IMAGES[..., : 6 * patch, : 6 * patch]
    with caplog.at_level(logging.WARNING):
        network(whole)
        assert not caplog.records
        cut = whole[..., :-3, :-5]
        network(cut), network(cut)
    (record,) = caplog.records
    assert f"are padded to {6 * patch} x {6 * patch} for the transformer's patches of {patch}" in record.message
    # The tokens of a cut image are those of the image with zeros in the place of what was cut off.
    blanked = whole.clone()
    blanked[..., -3:, :] = 0
    blanked[..., -5:] = 0
    (one,), (other,) = (network.token_maps(x, [4]).values() for x in (cut, blanked))
    torch.testing.assert_close(one, other)


def test_an_object_stays_where_it_is_under_padding():
    """The most similar cell to an object's own features lies in the object, whatever the size of the image."""
    network = backbone("fss_patch14_registers", MapSelection(keep=("none", "last", "none", "none")))
    for height, width in ((98, 98), (100, 111), (131, 87)):
        images = torch.zeros(1, 3, height, width)
        images[..., 40:75, 45:80] = torch.randn(3, 35, 35, generator=torch.Generator().manual_seed(1)) * 3
        (stage,) = [stage for stage in network(images) if stage]
        energy = F.interpolate((stage[0] - stage[0].mean((2, 3), keepdim=True)).norm(dim=1)[None], (height, width))
        inside = energy[..., 45:70, 50:75].mean()
        assert inside > 1.3 * energy[..., :30, :].mean() and inside > 1.3 * energy[..., 85:, :].mean()


def test_images_are_normalised_as_the_data_configuration_says():
    network = backbone("fss_patch16_clip")
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    own = (IMAGES * std + mean - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]
    padded = F.pad(own, (0, -100 % 16))
    expected = network.network.forward_intermediates(padded, indices=[4], norm=True, intermediates_only=True)[0]
    torch.testing.assert_close(network.token_maps(IMAGES, [4])[4], expected, rtol=1e-4, atol=1e-4)
    assert backbone("fss_patch14_registers").scale == (1.0, 1.0, 1.0)


def test_maps_pass_the_final_norm():
    for name in ("test_vit", "test_vit2", "fss_patch16_windows"):
        tokens = next(iter(backbone(name).token_maps(IMAGES, [2]).values()))
        torch.testing.assert_close(tokens.mean(1), torch.zeros_like(tokens[:, 0]), rtol=0, atol=1e-4)
        torch.testing.assert_close(tokens.std(1), torch.ones_like(tokens[:, 0]), rtol=0, atol=0.05)


def test_masksplit_keeps_the_tokens_own_grid():
    config = resolve_defaults(SegmenterConfig(backbone="timm:test_vit"))
    assert config.dilated and not resolve_defaults(SegmenterConfig(backbone="timm:test_vit", learner="hsnet")).dilated
    network = make(learner="masksplit", backbone="timm:test_vit").backbone
    sides = [stage[-1].shape[-1] for stage in network(IMAGES[..., :96, :96])[1:]]
    assert sides == [12, 6, 6]


def own_form(name, state):
    return state


def sam_form(name, state):
    encoder = {f"image_encoder.{key}": value for key, value in renamed(state, {"mlp.fc": "mlp.lin"}).items()}
    return {**encoder, "mask_decoder.iou_token.weight": torch.ones(2)}


def dinov2_form(name, state):
    state = {**state, "mask_token": torch.zeros(1, 32)}
    if "reg_token" in state:  # the authors' positions include the class token, of which timm's network has the sum
        state["register_tokens"] = state.pop("reg_token")
        own = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(2))
        state |= {"cls_token": state["cls_token"] - own, "pos_embed": torch.cat([own, state["pos_embed"]], 1)}
    gated = {"mlp.fc1": "mlp.w12", "mlp.fc2": "mlp.w3"} if name == "fss_patch14_gated" else {}
    return renamed(state, gated)


def clip_form(name, state):
    names = {
        "patch_embed.proj": "conv1",
        "norm_pre": "ln_pre",
        "blocks.": "transformer.resblocks.",
        "norm.": "ln_post.",
    }
    names |= {"norm1": "ln_1", "norm2": "ln_2", "attn.qkv.": "attn.in_proj_", "attn.proj": "attn.out_proj"}
    names |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    state = renamed({key: value for key, value in state.items() if not key.startswith("head.")}, names)
    state["class_embedding"], state["proj"] = state.pop("cls_token")[0, 0], torch.zeros(32, 16)
    state["positional_embedding"] = state.pop("pos_embed")[0]
    text = {"positional_embedding": torch.zeros(77, 16), "transformer.resblocks.0.ln_1.weight": torch.ones(16)}
    return {**{f"visual.{key}": value for key, value in state.items()}, **text, "logit_scale": torch.tensor(1.0)}


def renamed(state, names):
    for own, theirs in names.items():
        state = {key.replace(own, theirs): value for key, value in state.items()}
    return state


def dinov3_form(name, state):
    names = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    return {**renamed(state, names), "mask_token": torch.zeros(1, 32), "rope_embed.periods": torch.ones(4)}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("fss_patch14_registers", own_form),
        ("test_vit2", own_form),
        ("fss_patch14_registers", dinov2_form),
        ("fss_patch14_gated", dinov2_form),
        ("fss_patch16_clip", clip_form),
        ("fss_patch16_windows", sam_form),
        ("fss_patch16_rotary", dinov3_form),
    ],
)
def test_weights_of_timm_and_of_the_authors_load(name, form, tmp_path):
    torch.manual_seed(5)
    network = timm.create_model(name).eval()
    torch.save(form(name, network.state_dict()), tmp_path / "w.pth")
    loaded = create_backbone(f"timm:{name}", EVERY, backbone_weights=tmp_path / "w.pth", seed=1).eval()
    images = IMAGES[..., : network.patch_embed.img_size[0], : network.patch_embed.img_size[1]]
    for key, value in loaded.network.state_dict().items():
        source = key if key in network.state_dict() else key.replace("norm.", "fc_norm.")
        torch.testing.assert_close(value, network.state_dict()[source])
    assert loaded(images)[3][-1].isfinite().all()
    again = create_backbone(f"timm:{name}", EVERY, backbone_weights=save(loaded, tmp_path), seed=2).eval()
    torch.testing.assert_close(again(images)[3][-1], loaded(images)[3][-1])


def save(module, folder):
    torch.save({"backbone": module.state_dict()}, folder / "again.pth")
    return folder / "again.pth"


@pytest.mark.parametrize("form", [own_form, dinov2_form])
def test_position_embeddings_of_another_size_are_resized(form, tmp_path):
    state = timm.create_model("fss_patch14_registers", img_size=42).state_dict()
    torch.save(form("fss_patch14_registers", state), tmp_path / "w.pth")
    loaded = create_backbone("timm:fss_patch14_registers", EVERY, backbone_weights=tmp_path / "w.pth")
    assert loaded.network.pos_embed.shape[1] == 49


def test_transformers_that_cannot_serve_say_why(tmp_path):
    with pytest.raises(ValueError, match=r"images of one size only.*timm:vit_small"):
        create_backbone("timm:test_vit_relpos", EVERY)
    with pytest.raises(ValueError, match=r"no weights for fss_patch16_clip; give the path of a file"):
        create_backbone("timm:fss_patch16_clip", EVERY, backbone_weights="pretrained")
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="do not fit the backbone timm:fss_patch14_registers"):
        create_backbone("timm:fss_patch14_registers", EVERY, backbone_weights=tmp_path / "w.pth")
    with pytest.raises(ValueError, match="plain vision transformer of timm"):
        build_semantic(SemanticConfig(backbone="timm:test_resnet"), classes=2)


@pytest.mark.parametrize(
    ("network", "auxiliary", "stride", "name"),
    [
        ("lraspp", "deep", 16, "fss_patch14_registers"),
        ("deeplabv2", "shallow", 8, "fss_patch16_windows"),
        pytest.param("deeplabv3", "deep", 8, "test_vit2", marks=pytest.mark.slow),
        pytest.param("lraspp", "none", 8, "fss_patch16_rotary", marks=pytest.mark.slow),
    ],
)
def test_semantic_networks_take_the_simple_pyramid(network, auxiliary, stride, name, tmp_path):
    config = SemanticConfig(network=network, backbone=f"timm:{name}", stride=stride)
    model = build_semantic(config, classes=3, auxiliary=auxiliary).train()
    pixels = torch.randint(0, 256, (2, 3, 90, 75), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    logits = model(pixels)
    assert logits.main.shape == (2, 3, 90, 75)
    low, shared, last = model._levels(torch.zeros(1, 3, 64, 64))
    assert low.shape[-1] in (8, 64 // stride) and shared.shape[-1] == last.shape[-1] == 64 // stride
    total = logits.main.square().mean() + (0 if logits.auxiliary is None else logits.auxiliary.square().mean())
    total.backward()
    unused = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused, "a distributed training would wait for these"
    groups = model.parameter_groups(1.0, 0.1)
    assert len(groups) == 2 and any(p is model.pyramid.levels["last"][0].weight for p in groups[0]["params"])
    save_semantic(model, tmp_path, class_ids=[0, 1, 2])
    again, _ = load_semantic(tmp_path)
    torch.testing.assert_close(again(pixels).main, model.eval()(pixels).main)


def test_a_trainable_transformer_takes_gradients_everywhere_and_a_frozen_one_none():
    selection = MapSelection(keep=("none", "none", "last", "last"))
    for name in (*SMALL_VITS, "test_vit3"):
        network = create_backbone(f"timm:{name}", selection).train()
        sum(stage[-1].square().mean() for stage in network(IMAGES)[2:]).backward()
        idle = [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None]
        assert not idle, f"a distributed training would wait for {idle}"
        assert not backbone(name).train()(IMAGES)[3][-1].requires_grad


def test_the_inference_path_and_half_precision_do_not_change_the_result():
    segmenter = make(learner="hsnet", masking="feature", backbone="timm:fss_patch14_registers")
    batch = episode(1, 1)
    with torch.no_grad():
        expected = segmenter(*batch)
        assert prepare_inference(segmenter).name == "PyTorch"  # a transformer has no convolutions to fuse
        torch.testing.assert_close(segmenter(*batch), expected, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            half = segmenter(*batch).float()
    cosine = F.cosine_similarity(half.flatten(), expected.flatten(), dim=0)
    assert cosine > 0.99


def test_contract_of_a_transformer(tmp_path):
    check_contract(tmp_path, learner="masksplit", width=32, masking="hybrid", backbone="timm:fss_patch14_registers")


@pytest.mark.slow
@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("learner", ["masksplit", "hsnet", "asnet", "vat"])
def test_contract_of_every_learner_and_masking(learner, masking, tmp_path):
    check_contract(tmp_path, learner=learner, masking=masking, backbone="timm:test_vit")


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["masksplit", "hsnet", "asnet", "vat"])
@pytest.mark.parametrize("name", ["fss_patch16_rotary", "fss_patch16_windows", "test_vit2"])
def test_contract_of_more_transformers(learner, name, tmp_path):
    check_contract(tmp_path, learner=learner, masking="hybrid", backbone=f"timm:{name}")


def test_one_shot_and_five_shots_of_a_transformer():
    segmenter = make(learner="asnet", masking="none", backbone="timm:fss_patch16_rotary")
    for shots in (1, 5):
        assert set(segmenter.predict(*episode(1, shots)).unique().tolist()) <= {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pt2", "onnx"])
@pytest.mark.parametrize("name", SMALL_VITS)
def test_every_transformer_exports(name, form, tmp_path):
    segmenter = create_segmenter(learner="masksplit", width=32, image_size=100, backbone=f"timm:{name}", frozen=True)
    assert export_segmenter(segmenter, tmp_path / f"program.{form}", size=(100, 112), form=form) < 1e-3
