"""Load the published checkpoints of HSNet, ASNet, VAT (with or without hybrid masking) and MaskSplit.

The released key names are translated to those of this package. Everything else in the released files is ignored:
classifiers, stored attention masks and position indices, optimiser state, pickled settings.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fss.models.config import published_image_size
from fss.models.segmenter import FewShotSegmenter, create_segmenter
from fss.models.weights.loading import load_strictly
from fss.models.weights.reading import WeightsFile, open_weights
from fss.models.weights.state_dict import Tensors, find_state_dict

_PREFIXES = {"hsnet": "hpn_learner.", "asnet": "learner.", "vat": "hpn_learner.ours.", "masksplit": ""}
_BENCHMARKS = ("pascal", "coco", "fss")

# Entries that evaluation does not need: classifiers, BatchNorm's counters, and VAT's buffers, which are computed here.
_UNUSED = re.compile(
    r"^backbone\.(fc|classifier)\.|\.num_batches_tracked$|\.attn_mask$|\.attn\.relative_position_index$"
)

_VAT_NAMES = (
    (re.compile(r"\.conv4d\."), "."),
    (re.compile(r"^transformer\.(\d)\.transformer\.layer\.blocks\."), r"transformers.\1.blocks."),
    (re.compile(r"^transformer\.(\d)\.transformer\.norm\."), r"transformers.\1.norm."),
    (re.compile(r"^proj_query_feat\.(\d)\.0\."), r"affinities.\1."),
    (re.compile(r"^swin_decoder\.(\d)\.0\.transformer\.layers\.0\.blocks\."), r"stages.\1.blocks."),
    (re.compile(r"^swin_decoder\.(\d)\.0\.transformer\.norm\."), r"stages.\1.norm."),
    (re.compile(r"^swin_decoder\.(\d)\.1\."), r"reductions.\1."),
)


def load_published(
    state_dict_or_path: Mapping[str, Any] | str | Path,
    *,
    learner: str,
    masking: str,
    backbone: str,
    benchmark: str = "pascal",
    backbone_weights: str | Path | None = None,
) -> FewShotSegmenter:
    """Create a published network and load a released checkpoint with the key names of its authors.

    Args:
        state_dict_or_path: a state dict, a container with one, or the path of a file with either; see
            ``fss.models.weights``.
        learner: hsnet, asnet, vat or masksplit.
        masking: none, feature, input or hybrid.
        backbone: resnet50, resnet101 or vgg16; for masksplit, the ResNets are the variants with a deep stem.
        benchmark: pascal, coco or fss, which determines VAT's affinities and image size.
        backbone_weights: weights for a checkpoint without a backbone: a weights file, or ``"pretrained"``.
            Without them the backbone has random weights, and a warning is issued.

    Returns:
        The segmenter in evaluation mode, with a frozen backbone.

    Raises:
        ValueError: a name is unknown, the file cannot be opened, or keys are missing, unexpected or of another shape;
            the message lists them.
    """
    if benchmark not in _BENCHMARKS:
        raise ValueError(f"unknown benchmark {benchmark!r}; choose one of {', '.join(_BENCHMARKS)}")
    if isinstance(state_dict_or_path, (str, Path)):
        file = open_weights(state_dict_or_path)
    else:
        file = WeightsFile(name="given", content=state_dict_or_path)
    if learner == "masksplit" and backbone in ("resnet50", "resnet101"):
        backbone = f"{backbone}_deepstem"
    segmenter = create_segmenter(
        learner=learner,
        masking=masking,
        backbone=backbone,
        backbone_weights=backbone_weights,
        image_size=published_image_size(learner, benchmark),
        benchmark=benchmark,
        frozen=True,
    )

    def translate(tensors: Tensors) -> dict[str, Tensor]:
        return {_translate_key(key, learner): value for key, value in tensors.items() if not _UNUSED.search(key)}

    published = find_state_dict(file, [key for key in segmenter.state_dict() if key.startswith("learner.")], translate)
    state = translate(published.tensors)
    has_backbone = any(key.startswith("backbone.") for key in state)
    if not has_backbone:
        state |= {f"backbone.{key}": value for key, value in segmenter.backbone.state_dict().items()}
    what = f"the published {learner} with {backbone} for {benchmark}"
    load_strictly(segmenter, state, what=what, state=published)
    if not has_backbone and backbone_weights is None:
        warnings.warn(
            f"the checkpoint holds no backbone: {backbone} has random weights. Give backbone_weights.", stacklevel=2
        )
    # In the default memory format, convolutions round as in the published code.
    segmenter.backbone.to(memory_format=torch.contiguous_format)
    return segmenter.eval()


def _translate_key(key: str, learner: str) -> str:
    """Translate a released key. Unknown keys keep their names, so that loading reports them as unexpected."""
    if key.startswith("backbone."):
        return key
    if learner == "masksplit":
        return f"backbone.{key}" if re.match(r"layer\d\.", key) else f"learner.{key}"
    prefix = _PREFIXES[learner]
    if not key.startswith(prefix):
        return key
    key = key.removeprefix(prefix)
    if learner == "vat":
        for pattern, name in _VAT_NAMES:
            key = pattern.sub(name, key)
    return f"learner.{key}"
