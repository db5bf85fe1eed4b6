"""Loading released checkpoints: containers, prefixes, what is dropped and what is reported."""

import argparse
import sys
import types
import warnings

import pytest
import torch

from fss.models import create_segmenter, load_published
from tests.helpers.published_rule import GOLDEN, backbone_shapes, golden_files, read_golden, weights_by_rule

HSNET = {"learner": "hsnet", "masking": "feature", "backbone": "vgg16"}


@pytest.fixture(scope="module")
def hsnet_state():
    """An HSNet with VGG-16 under the released names, its classifier cut to one entry to keep the test light."""
    own = create_segmenter(**HSNET).state_dict()
    state = {k.replace("learner.", "hpn_learner.", 1): v for k, v in own.items()}
    return state | {"backbone.classifier.6.bias": torch.zeros(1000)}


def test_every_container_loads(hsnet_state, tmp_path):
    wrapped = {f"module.{key}": value for key, value in hsnet_state.items()}
    torch.save({"state_dict": wrapped, "epoch": 3, "settings": argparse.Namespace(lr=1e-3)}, tmp_path / "released.ckpt")
    segmenters = [
        load_published(hsnet_state, **HSNET),
        load_published(wrapped, **HSNET),
        load_published(tmp_path / "released.ckpt", **HSNET),
    ]
    for segmenter in segmenters:
        assert torch.equal(segmenter.learner.decoder1[0].weight, hsnet_state["hpn_learner.decoder1.0.weight"])
        assert segmenter.config.frozen and not segmenter.training


def test_checkpoints_of_lightning_load(tmp_path, monkeypatch):
    """As ASNet's and MaskSplit's authors saved them: weights beside settings, callbacks and the optimiser's state."""
    parsing = types.ModuleType("pytorch_lightning.utilities.parsing")
    parsing.AttributeDict = type("AttributeDict", (dict,), {"__module__": parsing.__name__})
    for name in ("pytorch_lightning", "pytorch_lightning.utilities"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, parsing.__name__, parsing)
    asnet = {"learner": "asnet", "masking": "none", "backbone": "vgg16"}
    masksplit = {"learner": "masksplit", "masking": "none", "backbone": "resnet50"}
    for settings in (asnet, masksplit):
        backbone = settings["backbone"] + ("_deepstem" if settings is masksplit else "")
        own = create_segmenter(**{**settings, "backbone": backbone}, seed=4).state_dict()
        prefixes = ("backbone.", "learner.") if settings is masksplit else ()
        state = {key.removeprefix(next(filter(key.startswith, prefixes), "")): value for key, value in own.items()}
        some = next(iter(state.values()))
        checkpoint = {
            "epoch": 99,
            "global_step": 36100,
            "pytorch-lightning_version": "1.3.8",
            "state_dict": state,
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "best_model_path": "last.ckpt"}},
            "optimizer_states": [{"state": {0: {"exp_avg": some, "step": 1}}, "param_groups": [{"lr": 1e-4}]}],
            "lr_schedulers": [],
            "hyper_parameters": parsing.AttributeDict(args=argparse.Namespace(bsz=16)),
        }
        torch.save(checkpoint, tmp_path / "epoch=99.ckpt")
        loaded = load_published(tmp_path / "epoch=99.ckpt", **settings).state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in own.items() if "num_batches" not in key)


def test_missing_and_unexpected_keys_are_named(hsnet_state):
    broken = dict(hsnet_state)
    broken["hpn_learner.decoder9.0.weight"] = broken.pop("hpn_learner.decoder1.0.weight")
    with pytest.raises(ValueError, match=r"missing: learner\.decoder1\.0\.weight; 1 unexpected: learner\.decoder9"):
        load_published(broken, **HSNET)
    with pytest.raises(ValueError, match=r"missing: backbone\.bn1.*unexpected: backbone\.features"):
        load_published(hsnet_state, learner="hsnet", masking="feature", backbone="resnet50")
    with pytest.raises(ValueError, match="pascal, coco, fss"):
        load_published(hsnet_state, **HSNET, benchmark="voc")
    with pytest.raises(
        ValueError, match="learner must be 'masksplit', 'hsnet', 'asnet', 'vat' or 'density', got 'panet'"
    ):
        load_published(hsnet_state, learner="panet", masking="none", backbone="vgg16")


def test_a_checkpoint_without_its_backbone(hsnet_state, tmp_path):
    head = {key: value for key, value in hsnet_state.items() if key.startswith("hpn_learner.")}
    with pytest.warns(UserWarning, match="holds no backbone"):
        load_published(head, **HSNET)
    backbone = {k.removeprefix("backbone."): v for k, v in hsnet_state.items() if k.startswith("backbone.")}
    torch.save(backbone, tmp_path / "vgg.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter = load_published(head, **HSNET, backbone_weights=tmp_path / "vgg.pth")
    assert torch.equal(segmenter.backbone.features[0].weight, backbone["features.0.weight"])


def test_a_file_that_would_run_code_does_not(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save(
        {"state_dict": {"hpn_learner.x": torch.zeros(1), "backbone.x": torch.zeros(1)}, "trap": Trap()},
        tmp_path / "bad.ckpt",
    )
    with pytest.raises(ValueError, match="do not fit"):
        load_published(tmp_path / "bad.ckpt", **HSNET)
    assert not (tmp_path / "sprung").exists()


def test_stored_masks_and_indices_are_dropped():
    paths = [path for path in golden_files() if path.stem.startswith("vat")]
    if not paths:
        pytest.skip(f"no reference key lists at {GOLDEN}")
    golden = read_golden(paths[0])
    shapes = {key: tuple(shape) for key, shape in golden["keys"]} | backbone_shapes(golden["backbone"])
    state = {f"module.{key}": value for key, value in weights_by_rule(shapes, 0).items()}
    block = "module.hpn_learner.ours.transformer.0.transformer.layer.blocks.1."
    state |= {block + "attn_mask": torch.zeros(1), block + "attn.relative_position_index": torch.zeros(1).long()}
    settings = {"learner": "vat", "masking": golden["masking"], "backbone": golden["backbone"]}
    segmenter = load_published({"state_dict": state}, **settings, benchmark=golden["benchmark"])
    assert segmenter.config.image_size == golden["size"]
    assert not any("attn_mask" in key or "index" in key for key in segmenter.state_dict())
