"""State dicts as people save them: in containers, under prefixes, beside settings, as an average."""

import argparse
import collections
import datetime
import enum
import logging
import os
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fss.models.weights.loading import load_weights
from fss.models.weights.state_dict import log_once

State = dict[str, Tensor]


class Network(nn.Module):
    """A network with the kinds of tensors that matter: weights, buffers and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))


class Config(dict):  # type: ignore[type-arg]
    """A dict with attributes, as configuration libraries pickle it."""


class Items(list):  # type: ignore[type-arg]
    """A list of another class, which cannot be replaced by an empty container."""


class Colour(enum.Enum):
    RED = 1


def state(value: float = 1.0) -> State:
    tensors = Network().state_dict()
    return {name: torch.full_like(tensor, value) for name, tensor in tensors.items()}


def under(prefix: str, value: float = 1.0) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state(value).items()}


def load(content: object, file: Path, **options: Any) -> Network:
    torch.save(content, file, **options)
    network = Network()
    load_weights(network, file, what="the network")
    return network


PREFIXES = (
    "", "_orig_mod.", "model.", "module.", "model.module.", "module.model.", "backbone.", "encoder.", "net.",
    "model.backbone.", "model._orig_mod.backbone.", "_orig_mod.module.net.", "_forward_module.model.encoder.",
    "image_encoder.trunk.", "Scale.",
)  # fmt: skip
CONTAINERS: dict[str, Any] = {
    **{key: lambda inner, key=key: {key: inner, "epoch": 3} for key in (
        "model", "state_dict", "model_state_dict", "ema", "model_ema", "teacher", "student", "params", "network",
        "generator",
    )},
    "nested": lambda inner: {"model": {"state_dict": inner, "step": 3}},
    "deeper": lambda inner: {"checkpoint": {"model": {"params": inner}}},
    "lightning": lambda inner: {
        "epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.5", "state_dict": inner, "lr_schedulers": [],
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}],
        "hyper_parameters": argparse.Namespace(lr=0.1), "callbacks": {},
    },
    "optimizer": lambda inner: {"model": inner, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
    "averaged model": lambda inner: {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in inner.items()}},
    "parameters": lambda inner: {"model": {key: nn.Parameter(each, False) for key, each in inner.items()}},
    "arrays": lambda inner: {"model": {key: each.numpy() for key, each in inner.items()}, "epoch": 3},
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_and_prefixes_open(tmp_path: Path, container: str) -> None:
    for prefix in PREFIXES:
        network = load(CONTAINERS[container](under(prefix)), tmp_path / "w.pth")
        assert all((tensor == 1).all() for tensor in network.state_dict().values()), prefix


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_open_without_container_and_as_safetensors(tmp_path: Path, prefix: str) -> None:
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        assert (load(under(prefix), tmp_path / "w.pth", **options).conv1.weight == 1).all()
    save_file(under(prefix), tmp_path / "w.safetensors")
    load_weights(Network(), tmp_path / "w.safetensors", what="the network")


AVERAGES: dict[str, Any] = {
    "ema": {"model": state(1), "ema": state(2)},
    "model_ema": {"model_ema": under("module.", 2), "model": state(1)},
    "state_dict_ema": {"state_dict": under("module.", 1), "state_dict_ema": under("module.", 2)},
    "params_ema": {"params": state(1), "params_ema": state(2)},
    "teacher": {"student": under("module.backbone.", 1), "teacher": under("backbone.", 2)},
    "teacher prefix": {"state_dict": under("student.backbone.", 1) | under("teacher.backbone.", 2)},
    "three": {"best": state(3), "student": state(1), "teacher": state(2)},
}


@pytest.mark.parametrize("case", AVERAGES)
def test_the_moving_average_is_taken_and_the_log_says_so(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    log_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert (load(AVERAGES[case], tmp_path / "w.pth").conv1.weight == 2).all()
    (message,) = caplog.messages
    assert "took the moving average under" in message and ", not " in message


def test_an_average_without_buffers_or_with_equal_weights_is_no_choice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parameters = {name: tensor for name, tensor in state(2).items() if "running" not in name}
    assert (load({"model": state(1), "ema": parameters}, tmp_path / "w.pth").conv1.weight == 1).all()
    shadow = {"decay": 0.999, "shadow_params": list(state(2).values())}
    assert (load({"model": state(1), "ema": shadow}, tmp_path / "w.pth").conv1.weight == 1).all()
    assert (load({"best": state(2), "last": state(2)}, tmp_path / "w.pth").conv1.weight == 2).all()
    assert not caplog.messages


def test_several_networks_without_a_rule_are_refused(tmp_path: Path) -> None:
    for content, names in [
        ({"rgb": state(1), "depth": state(2)}, "'rgb' and 'depth'"),
        ({"state_dict": under("encoder_q.", 1) | under("encoder_k.", 2)}, r"'state_dict\.encoder_q' and .*encoder_k'"),
        ({"ema": state(1), "teacher": state(2), "model": state(3)}, "'ema' and 'teacher'"),
    ]:
        with pytest.raises(ValueError, match=f"holds 2 networks that fit, under {names}; save the one to use"):
            load(content, tmp_path / "w.pth")


BESIDE: dict[str, Any] = {
    "namespace": argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath("/data")),
    "path": pathlib.Path("/data"),
    "numpy scalar": np.float64(0.5),
    "numpy numbers": {"best": np.float32(0.5), "step": np.int64(3), "flag": np.bool_(True), "dtype": np.dtype("f4")},
    "collections": [collections.deque([1, 2]), collections.defaultdict(list, a=[1]), collections.Counter("aab")],
    "config": Config(lr=0.1, nested=Config(a=1)),
    "enum": Colour.RED,
    "random state": [np.random.default_rng(0).bit_generator.state, np.random.RandomState(0).get_state()],
    "array": np.arange(6).reshape(2, 3),
    "date": datetime.datetime(2024, 5, 17),
    "function": len,
    "set": {1, 2},
}


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize("name", BESIDE)
def test_objects_beside_the_weights_do_not_matter(tmp_path: Path, name: str, options: dict[str, bool]) -> None:
    network = load({"state_dict": under("module."), "beside": BESIDE[name]}, tmp_path / "w.pth", **options)
    assert (network.conv1.weight == 1).all()


class Call:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/never",)


REFUSED: dict[str, tuple[Any, str]] = {
    "whole network": (Network(), "but pickled objects of .*Network, which are not opened; save the weights"),
    "network in a container": ({"model": Network(), "epoch": 3}, "keys model, epoch and pickled objects of .*Network"),
    "torch's own modules": (torch.nn.Sequential(torch.nn.Linear(2, 2)), "but pickled objects of .*Sequential"),
    "no values": ({key: value.to("meta") for key, value in state().items()}, "but the top-level keys conv1"),
    "no weights": ({"epoch": 3, "args": argparse.Namespace()}, "no state dict but the top-level keys epoch, args;"),
    "list": ([1, 2], "no state dict but a value of type list"),
    "nothing": ({}, "no state dict but a value of type dict"),
    "a call": ({"model": state(), "x": Call()}, r"a call of posix\.system, which runs commands"),
    "list of a class": ({"model": state(), "x": Items([1])}, r"pickles objects of .*Items, which are not opened; save"),
    "nan": (state() | {"layer1.0.bias": torch.tensor([1, torch.nan, 1, torch.inf])}, r"layer1\.0\.bias .* in 2 of 4"),
    "inf in half": ({"ema": state() | {"conv1.bias": torch.full((4,), torch.inf).half()}}, r"'ema'\) .*finite: conv1"),
    "another network": (
        {"model": {f"block.{i}.weight": torch.ones(2) for i in range(100)}, "epoch": 3},
        r"\(under 'model'\) do not fit the network: 0 of 9 tensors match; 8 missing: conv1\.bias, .* and 3 more.* "
        r"Top-level keys of the file: model, epoch\. Tensors of the file: block\.0\.weight, .* and 95 more\.",
    ),
    "another size": (
        state() | {"conv1.weight": torch.ones(5, 3, 3, 3)},
        r"8 of 9 tensors match; 1 of another shape: conv1\.weight: got \[5, 3, 3, 3\], expected \[4, 3, 3, 3\]\.",
    ),
    "another block": (state() | {"layer1.2.weight": torch.ones(1)}, r"9 of 9 .*; 1 unexpected: layer1\.2\.weight"),
    "a part": ({"model": {k: v for k, v in under("net.").items() if "bias" not in k}}, r"'model\.net'.*3 missing: co"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as caught:
        load(content, tmp_path / "w.pth")
    text = str(caught.value)
    assert "\n" not in text and len(text) < 1200 and str(tmp_path / "w.pth") in text
    assert not any(word in text for word in ("weights_only", "safe_globals", "trust"))
    assert not Path("/tmp/never").exists()


def test_other_modules_are_left_out_and_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log_once.cache_clear()
    load(state() | {"decode_head.weight": torch.ones(3)}, tmp_path / "w.pth")
    assert "left out decode_head, which the network lacks" in caplog.text
