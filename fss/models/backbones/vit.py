"""Plain vision transformers of timm as backbones: DINO, DINOv2, DINOv3, CLIP, SAM's image encoder and their kin.

A plain transformer has one resolution, its grid of tokens. Few-shot learners compare maps of several blocks and of
several resolutions. So the blocks are divided evenly among the four stages, the first blocks for reduction 4 and the
last ones for reduction 32, and the maps of a stage are resampled to its reduction (as "reassemble" in Ranftl et al.,
DPT, ICCV 2021, section 3, without weights of its own, because backbones are often frozen). Semantic networks take the
tokens of the last block instead, for a feature pyramid with weights (``fss.models.semantic.pyramid``).

Every map passes the transformer's final norm, as in DINOv2's ``get_intermediate_layers``; a transformer without one
(SAM) has its maps normalised without weights. Otherwise few channels with huge values decide all cosines.

Sources: ViT (Dosovitskiy et al., ICLR 2021); DINO (Caron et al., ICCV 2021); DINOv2 (Oquab et al., TMLR 2024);
registers (Darcet et al., ICLR 2024); DINOv3 (Simeoni et al., 2025, with rotary positions); CLIP (Radford et al., ICML
2021); SAM (Kirillov et al., ICCV 2023, section 3 and appendix A: windows, and relative positions).
"""

import contextlib
import io
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss.models.backbones.base import Backbone, MapSelection, select_channels, select_maps
from fss.models.backbones.token_grid import cell_count, resample_tokens
from fss.models.features import IMAGENET_MEAN, IMAGENET_STD, REDUCTIONS, Features
from fss.models.weights.state_dict import log_once

_EXAMPLE = "vit_small_patch14_reg4_dinov2.lvd142m"


class VitBackbone(Backbone):
    """A plain vision transformer whose maps of several blocks form a pyramid.

    Images of any size are padded at the bottom and on the right to a multiple of the patch. Maps are sampled at the
    pixels of the image alone, so that the padding moves nothing. Images are normalised as the model's data
    configuration in timm says.

    With ``dilated``, a stage whose reduction exceeds the patch keeps the transformer's own grid.
    """

    def __init__(self, network: Any, selection: MapSelection) -> None:
        super().__init__(selection)
        self.network = network
        self.patch: int = network.feature_info[0]["reduction"]
        self.stage_blocks = [
            select_maps(blocks, keep)
            for blocks, keep in zip(divide_blocks(len(network.blocks)), selection.keep, strict=True)
        ]
        self.channels = select_channels([[network.embed_dim] * len(blocks) for blocks in self.stage_blocks], selection)
        self.scale, self.shift = _renormalisation(network.pretrained_cfg or {})

    @property
    def tokens(self) -> "VitBackbone":
        """The backbone itself."""
        return self

    def stages(self, images: Tensor) -> Features:
        """Return the selected block outputs, resampled to the reductions of their stages."""
        size = images.shape[-2:]
        maps = self.token_maps(images, sorted({block for blocks in self.stage_blocks for block in blocks}))
        features: Features = []
        for blocks, reduction in zip(self.stage_blocks, REDUCTIONS, strict=True):
            step = min(reduction, self.patch) if self.selection.dilated else reduction
            cells = [cell_count(side, step) for side in size]
            features.append([resample_tokens(maps[block], self.patch, size, cells) for block in blocks])
        return features

    def token_maps(self, images: Tensor, blocks: list[int]) -> dict[int, Tensor]:
        """Return the normalised patch tokens ``[B,C,h,w]`` of blocks, for images ``[B,3,H,W]``.

        The grid covers the padded image: h is the least number of patches that covers H.
        """
        height, width = images.shape[-2:]
        if not torch.compiler.is_compiling() and (note := self.padding_note(height, width)):
            log_once(note)
        if self.scale != (1.0, 1.0, 1.0) or self.shift != (0.0, 0.0, 0.0):
            scale, shift = (
                torch.stack([images.new_full((1, 1), value) for value in values]) for values in (self.scale, self.shift)
            )
            images = images * scale + shift
        images = F.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        has_norm = isinstance(getattr(self.network, "norm", None), nn.Module)
        maps = self.network.forward_intermediates(
            images, indices=blocks, norm=has_norm, stop_early=True, intermediates_only=True
        )
        if not has_norm:
            maps = [F.layer_norm(m.movedim(1, -1), m.shape[1:2]).movedim(-1, 1) for m in maps]
        return dict(zip(blocks, maps, strict=True))

    def padding_note(self, height: int, width: int) -> str:
        """Return a note on the padding of images of this size, or an empty string."""
        if not (height % self.patch or width % self.patch):
            return ""
        padded = [side + -side % self.patch for side in (height, width)]
        below = max(height, width) // self.patch * self.patch
        return (
            f"images of {height} x {width} pixels are padded to {padded[0]} x {padded[1]} for the transformer's "
            f"patches of {self.patch} pixels; results have the images' own size. Sides of {below} or "
            f"{below + self.patch} pixels need no padding."
        )

    def rename_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate the names of timm's and of the authors' state dicts, and drop heads and necks.

        Position embeddings of another grid are resized, and patch embeddings of another patch size too.
        """
        own = {key.partition(".")[0] for key in self.network.state_dict()}
        translated = translate_weights(self.network, state)
        return {f"network.{key}": v for key, v in translated.items() if key.partition(".")[0] in own}


def divide_blocks(depth: int) -> list[tuple[int, ...]]:
    """Divide the block numbers evenly among the four stages; of fewer than four blocks, some serve several stages."""
    ends = [-(-depth * (stage + 1) // len(REDUCTIONS)) for stage in range(len(REDUCTIONS))]
    starts = [0, *ends]
    return [tuple(range(min(start, end - 1), end)) for start, end in zip(starts, ends, strict=False)]


def translate_weights(network: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a state dict by timm's own filter for the class of ``network``, which knows the authors' formats."""
    convert = sys.modules[type(network).__module__].checkpoint_filter_fn
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # timm prints about biases that DINOv3 lacks
            translated = dict(convert(dict(state), network))
    except (KeyError, IndexError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError):
        translated = dict(state)  # another network's; loading names what does not fit
    if network.__dict__.get("pools_before_norm"):
        translated = {key.replace("fc_norm.", "norm.", 1): value for key, value in translated.items()}
    return translated


@lru_cache(maxsize=64)
def is_plain_transformer(name: str) -> bool:
    """Return whether a timm model is a transformer with one grid of tokens; ``timm:`` before the name is allowed."""
    import timm

    name = name.removeprefix("timm:")
    if not timm.is_model(name):
        return False
    try:
        with torch.device("meta"):
            network: Any = timm.create_model(name)
    except (RuntimeError, NotImplementedError, TypeError, AttributeError):
        return False
    reductions = {each["reduction"] for each in network.feature_info} if hasattr(network, "blocks") else set()
    return len(reductions) == 1 and hasattr(network, "forward_intermediates") and hasattr(network, "patch_embed")


def build(name: str, selection: MapSelection, pretrained: bool) -> Backbone:
    """Create the plain vision transformer ``name``.

    Raises:
        ValueError: the transformer takes images of one size only, or timm has no weights for it.
    """
    import timm
    from timm.models.vision_transformer_sam import VisionTransformerSAM

    weights = timm.get_pretrained_cfg(name)
    if pretrained and not (weights and weights.has_weights):
        names = ", ".join(f"timm:{each}" for each in timm.list_pretrained(f"{name.partition('.')[0]}*")[:5])
        raise ValueError(
            f"timm has no weights for {name}; {f'it has some for {names}' if names else 'give the path of a file'}, or "
            "give None for random weights"
        )
    try:
        network: Any = timm.create_model(name, pretrained=pretrained, num_classes=0, dynamic_img_size=True)
    except TypeError:
        network = timm.create_model(name, pretrained=pretrained, num_classes=0)
        if not isinstance(network, VisionTransformerSAM):
            raise ValueError(
                f"timm's {name} takes images of one size only, so it cannot be a backbone; choose a transformer "
                f"without a table of relative positions, such as timm:{_EXAMPLE}"
            ) from None
    return VitBackbone(_without_head(network), selection)


@contextlib.contextmanager
def explicit_attention(module: nn.Module) -> Iterator[None]:
    """Let SAM's blocks compute their attention by matrix products: ONNX has no fused attention of three dimensions."""
    sam = sys.modules.get("timm.models.vision_transformer_sam")  # without it, no module is one of SAM's
    attentions = [each for each in module.modules() if sam and isinstance(each, sam.Attention)]
    layers: list[Any] = [each for each in attentions if each.fused_attn]
    for layer in layers:
        layer.fused_attn = False
    try:
        yield
    finally:
        for layer in layers:
            layer.fused_attn = True


def _without_head(network: Any) -> Any:
    """Remove the modules after the last block, except the final norm."""
    if isinstance(getattr(network, "norm", None), nn.Identity) and not isinstance(network.fc_norm, nn.Identity):
        network.norm, network.fc_norm = network.fc_norm, nn.Identity()
        network.pools_before_norm = True
    for name in ("attn_pool", "neck", "head", "head_dist"):
        if isinstance(getattr(network, name, None), nn.Module):
            setattr(network, name, nn.Identity())
    return network


def _renormalisation(config: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return factor and summand, per channel, from ImageNet's normalisation to that of a timm data configuration."""
    mean, std = config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD)
    if tuple(mean) == IMAGENET_MEAN and tuple(std) == IMAGENET_STD:
        return (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    scale = tuple(given / own for given, own in zip(IMAGENET_STD, std, strict=True))
    return scale, tuple((given - own) / spread for given, own, spread in zip(IMAGENET_MEAN, mean, std, strict=True))
