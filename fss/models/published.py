"""Load the published checkpoints of HSNet, ASNet, VAT (with or without hybrid masking) and MaskSplit.

The networks' parameters are translated from the released key names to this package's; what the released files hold
beside them (classifiers, stored attention masks and position indices, optimiser state, pickled settings) is dropped.
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
from fss.models.segmenter import FewShotSegmenter, create_segmenter

_PREFIXES = {"hsnet": "hpn_learner.", "asnet": "learner.", "vat": "hpn_learner.ours.", "masksplit": ""}
_IMAGE_SIZES = {"pascal": 473, "coco": 417, "fss": 473}
_BENCHMARKS = tuple(_IMAGE_SIZES)

# Entries that evaluation does not read: classifiers, BatchNorm's counters, and VAT's computable buffers.
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
    """Build a published network and load a released checkpoint by its own key names.

    Accepts a flat state dict or a container with a ``state_dict``, keys with or without a ``module.`` prefix.

    Args:
        state_dict_or_path: the checkpoint; a file is read with ``weights_only``, foreign objects in it become inert.
        learner: hsnet, asnet, vat or masksplit.
        masking: none, feature, input or hybrid.
        backbone: resnet50, resnet101 or vgg16; for masksplit the ResNets mean those with the deep stem.
        benchmark: pascal, coco or fss; decides VAT's affinities and image size.
        backbone_weights: where the backbone comes from when the checkpoint holds none: a state dict's path or
            ``"pretrained"``. Without it such a backbone stays random, with a warning.

    Returns:
        The segmenter in evaluation mode, with a frozen backbone.

    Raises:
        ValueError: an unknown name, or keys that are missing, unexpected or of another shape, by name.
    """
    if benchmark not in _BENCHMARKS:
        raise ValueError(f"unknown benchmark {benchmark!r}; known are {', '.join(_BENCHMARKS)}")
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
    state = {_own_name(key, learner): value for key, value in published.items() if not _UNUSED.search(key)}
    if not any(key.startswith("backbone.") for key in state):
        if backbone_weights is None:
            warnings.warn(
                f"the checkpoint holds no backbone: {backbone} stays random. Give backbone_weights.", stacklevel=2
            )
        state |= {f"backbone.{key}": value for key, value in segmenter.backbone.state_dict().items()}
    load_strictly(segmenter, state, what=f"the published {learner} with {backbone} for {benchmark}")
    # In the default memory format convolutions round as the published code's do.
    segmenter.backbone.to(memory_format=torch.contiguous_format)
    return segmenter.eval()


def published_image_size(learner: str, benchmark: str) -> int:
    """Return the side of the images, in pixels, that a published network was made for."""
    return _IMAGE_SIZES[benchmark] if learner == "vat" else 400


def _own_name(key: str, learner: str) -> str:
    """Translate a released key; one that has no place here keeps its name and is reported as unexpected."""
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


class _Inert:
    """Stands in for any foreign class in a checkpoint: building one runs no foreign code and yields a plain mapping."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return OrderedDict()


def _read_published(path: Path) -> dict[str, Tensor]:
    """Read a released file with ``weights_only``; settings pickled beside the weights are read as inert mappings."""
    if not path.is_file() or path.suffix == ".safetensors":
        return read_state_dict(path)
    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    with torch.serialization.safe_globals([(_Inert, name) for name in foreign]):
        return read_state_dict(path)
