"""Checkpoint files in the forms that the authors of HSNet, ASNet, VAT and MaskSplit released, with random weights."""

import argparse
import re
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fss.models import create_segmenter

ENDINGS = {"hsnet": ".pt", "asnet": ".ckpt", "vat": ".pth.tar", "masksplit": ".ckpt"}
"""Ending of the authors' files, by learner."""

_VAT_NAMES = (
    (r"^encoders\.(\d)\.", r"encoders.\1.conv4d."),
    (r"^transformers\.(\d)\.blocks\.", r"transformer.\1.transformer.layer.blocks."),
    (r"^transformers\.(\d)\.norm\.", r"transformer.\1.transformer.norm."),
    (r"^affinities\.(\d)\.", r"proj_query_feat.\1.0."),
    (r"^stages\.(\d)\.blocks\.", r"swin_decoder.\1.0.transformer.layers.0.blocks."),
    (r"^stages\.(\d)\.norm\.", r"swin_decoder.\1.0.transformer.norm."),
    (r"^reductions\.(\d)\.", r"swin_decoder.\1.1."),
)


def write_published(path: Path, *, learner: str, backbone: str, benchmark: str = "pascal", seed: int = 0) -> None:
    """Write a checkpoint of a random network as the learner's authors saved theirs.

    Args:
        path: file to write; masking adds no weights, so that one file serves every masking strategy.
        learner: hsnet, asnet, vat or masksplit.
        backbone: name of the backbone in fss.
        benchmark: pascal, coco or fss, which decides on VAT's weights.
        seed: seed of the weights.
    """
    network = create_segmenter(learner=learner, masking="none", backbone=backbone, benchmark=benchmark, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = published_names(network.state_dict(), learner)
    if learner == "hsnet":
        torch.save(_in_module(state), path)
    elif learner == "vat":
        torch.save({"epoch": 7, "state_dict": _in_module(state), "optimizer": _optimizer(state)}, path)
    else:
        with _lightning() as parsing:
            torch.save(
                {
                    "epoch": 99,
                    "global_step": 36100,
                    "pytorch-lightning_version": "1.3.8",
                    "state_dict": state,
                    "callbacks": {"ModelCheckpoint": {"best_model_path": "last.ckpt"}},
                    "optimizer_states": [_optimizer(state)],
                    "lr_schedulers": [],
                    "hyper_parameters": parsing.AttributeDict(args=argparse.Namespace(bsz=16)),
                },
                path,
            )


def published_names(state: Mapping[str, Tensor], learner: str) -> dict[str, Tensor]:
    """Return the state dict of a network of fss under the names of its learner's authors, without a wrapper's."""
    head = {"hsnet": "hpn_learner.", "asnet": "learner.", "vat": "hpn_learner.ours.", "masksplit": ""}[learner]
    named = {}
    for key, value in state.items():
        module, _, name = key.partition(".")
        if module == "backbone":
            named[name if learner == "masksplit" else key] = value
            continue
        for pattern, replacement in _VAT_NAMES if learner == "vat" else ():
            name = re.sub(pattern, replacement, name)
        named[head + name] = value
    if learner == "vat":  # buffers of the released code
        block = "hpn_learner.ours.transformer.0.transformer.layer.blocks.1."
        named |= {f"{block}attn_mask": torch.zeros(1), f"{block}attn.relative_position_index": torch.zeros(1).long()}
    if learner != "masksplit":
        named["backbone.fc.bias"] = torch.zeros(1000)  # the classifier, which is not used
    return named


def _in_module(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{key}": value for key, value in state.items()}


def _optimizer(state: Mapping[str, Tensor]) -> dict[str, Any]:
    first = next(iter(state.values()))
    return {"state": {0: {"exp_avg": first, "step": 1}}, "param_groups": [{"lr": 1e-4}]}


@contextmanager
def _lightning() -> Iterator[Any]:
    """Let pickle find the class of Lightning's settings, which is not installed."""
    parsing: Any = types.ModuleType("pytorch_lightning.utilities.parsing")
    parsing.AttributeDict = type("AttributeDict", (dict,), {"__module__": parsing.__name__})
    packages = [types.ModuleType(name) for name in ("pytorch_lightning", "pytorch_lightning.utilities")]
    names = {module.__name__: module for module in (*packages, parsing)}
    sys.modules.update(names)
    try:
        yield parsing
    finally:
        for name in names:
            del sys.modules[name]
