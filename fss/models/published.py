"""Load the published checkpoints of HSNet, ASNet, VAT (with or without hybrid masking) and MaskSplit.

The released key names are translated to those of this package. Everything else in the released files is ignored:
classifiers, stored attention masks and position indices, optimiser state, pickled settings.
"""

import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fss.models.backbones.base import load_strictly, read_state_dict, unwrap_state_dict
from fss.models.config import published_image_size
from fss.models.segmenter import FewShotSegmenter, create_segmenter

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
        state_dict_or_path: a state dict, a container with a ``state_dict`` entry, or the path of a file with either.
        Keys
            may have a ``module.`` prefix. A file is read with ``weights_only=True``; objects of other classes in it are
            replaced by empty mappings.
        learner: hsnet, asnet, vat or masksplit.
        masking: none, feature, input or hybrid.
        backbone: resnet50, resnet101 or vgg16; for masksplit, the ResNets are the variants with a deep stem.
        benchmark: pascal, coco or fss, which determines VAT's affinities and image size.
        backbone_weights: weights for a checkpoint without a backbone: the path of a state dict, or ``"pretrained"``.
            Without them the backbone has random weights, and a warning is issued.

    Returns:
        The segmenter in evaluation mode, with a frozen backbone.

    Raises:
        ValueError: a name is unknown, or keys are missing, unexpected or of another shape; the message lists them.
    """
    if benchmark not in _BENCHMARKS:
        raise ValueError(f"unknown benchmark {benchmark!r}; choose one of {', '.join(_BENCHMARKS)}")
    if isinstance(state_dict_or_path, (str, Path)):
        published = _read_published(Path(state_dict_or_path))
    else:
        published = unwrap_state_dict(state_dict_or_path)
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
    state = {_translate_key(key, learner): value for key, value in published.items() if not _UNUSED.search(key)}
    if not any(key.startswith("backbone.") for key in state):
        if backbone_weights is None:
            warnings.warn(
                f"the checkpoint holds no backbone: {backbone} has random weights. Give backbone_weights.", stacklevel=2
            )
        state |= {f"backbone.{key}": value for key, value in segmenter.backbone.state_dict().items()}
    load_strictly(segmenter, state, what=f"the published {learner} with {backbone} for {benchmark}")
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


class _InertObject:
    """A substitute for any class in a checkpoint that is not a tensor. Its instances are empty mappings."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return OrderedDict()


def _read_published(path: Path) -> dict[str, Tensor]:
    """Read a released file with ``weights_only=True``; pickled settings become empty mappings."""
    if not path.is_file() or path.suffix == ".safetensors":
        return read_state_dict(path)
    class_names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    with torch.serialization.safe_globals([(_InertObject, name) for name in class_names]):
        return read_state_dict(path)
