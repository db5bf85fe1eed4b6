"""Small vision transformers with random weights, registered with timm; tests of every form take :data:`SMALL_VITS`."""

from typing import Any

from timm.layers.mlp import SwiGLUPacked
from timm.models import register_model
from timm.models._registry import generate_default_cfgs
from timm.models.eva import _create_eva
from timm.models.vision_transformer import _create_vision_transformer
from timm.models.vision_transformer_sam import _create_vision_transformer as _create_sam
from torch import nn

CLIP_MEAN, CLIP_STD = (0.481, 0.458, 0.408), (0.269, 0.261, 0.276)
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

default_cfgs = generate_default_cfgs(
    {
        "fss_patch14_registers": {**_IMAGENET, "input_size": (3, 98, 98)},
        "fss_patch16_clip": {"mean": CLIP_MEAN, "std": CLIP_STD, "input_size": (3, 96, 96)},
        "fss_patch16_rotary": {**_IMAGENET, "input_size": (3, 96, 96)},
        "fss_patch16_windows": {**_IMAGENET, "input_size": (3, 128, 128)},
        "fss_patch14_gated": {**_IMAGENET, "input_size": (3, 98, 98)},
    }
)
SMALL_VITS = ("fss_patch14_registers", "fss_patch16_clip", "fss_patch16_rotary", "fss_patch16_windows")


def _size(image: int, patch: int) -> dict[str, Any]:
    return {"img_size": image, "patch_size": patch, "embed_dim": 32, "depth": 5, "num_heads": 2}


@register_model
def fss_patch14_registers(pretrained: bool = False, **settings: Any) -> Any:
    """A transformer in the form of DINOv2 with a class token and four registers."""
    form = {"reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5}
    return _create_vision_transformer("fss_patch14_registers", pretrained, **{**_size(98, 14), **form, **settings})


@register_model
def fss_patch14_gated(pretrained: bool = False, **settings: Any) -> Any:
    """A transformer in the form of DINOv2's giant: a class token, no registers, and gated layers."""
    form = {"init_values": 1e-5, "mlp_ratio": 4.0, "mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    return _create_vision_transformer("fss_patch14_gated", pretrained, **{**_size(98, 14), **form, **settings})


@register_model
def fss_patch16_clip(pretrained: bool = False, **settings: Any) -> Any:
    """A transformer in the form of CLIP: a norm before the blocks, and CLIP's own mean and deviation."""
    return _create_vision_transformer("fss_patch16_clip", pretrained, **{**_size(96, 16), "pre_norm": True, **settings})


@register_model
def fss_patch16_rotary(pretrained: bool = False, **settings: Any) -> Any:
    """A transformer in the form of DINOv3: rotary positions, a class token and four registers."""
    rotary = {"rope_type": "dinov3", "rope_temperature": 100, "rope_rotate_half": True, "use_rot_pos_emb": True}
    form = {"use_abs_pos_emb": False, "num_reg_tokens": 4, "qkv_bias": False, "use_fc_norm": False, **rotary}
    return _create_eva("fss_patch16_rotary", pretrained, **{**_size(96, 16), **form, **settings})


@register_model
def fss_patch16_windows(pretrained: bool = False, **settings: Any) -> Any:
    """A transformer in the form of SAM's encoder: windows, relative positions and a neck, without a class token."""
    form = {"window_size": 3, "global_attn_indexes": (2, 4), "use_rel_pos": True, "neck_chans": 16}
    settings = {**_size(128, 16), **form, **settings}
    return _create_sam("fss_patch16_windows", pretrained, **settings)  # type: ignore[no-untyped-call]
