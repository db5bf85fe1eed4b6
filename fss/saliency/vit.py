"""Salient objects from the features of a self-supervised vision transformer, without training.

The background discovery of FOUND (Simeoni et al., CVPR 2023, section 3.1): the patch with the least attention of the
class token is background, patches similar to it are background too, and all others are object.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fss.core.arrays import Rgb
from fss.models.backbones.vit import translate_weights
from fss.models.config import Precision
from fss.models.precision import autocast
from fss.models.weights.loading import load_own_modules
from fss.models.weights.reading import open_weights
from fss.models.weights.state_dict import find_state_dict
from fss.saliency.classical.estimator import SaliencyResult
from fss.saliency.two_view import normalize_images, resize_images, result_of_views

SLOPE = 10.0  # slope of the soft map's sigmoid at the threshold


def object_map(keys: Tensor, attention: Tensor, *, threshold: float = 0.3) -> Tensor:
    """Return the patches that differ from the least attended patch.

    Heads whose attention covers fewer patches have more weight, in the features and in the attention (eq. 1-3).

    Args:
        keys: keys of the patches in the last layer, [B,heads,N,d].
        attention: attention of the class token to the patches, [B,heads,N].
        threshold: cosine above which a patch is background.

    Returns:
        Soft map of the object, [B,N] in 0..1; above one half is object.
    """
    mean = attention.mean((1, 2), keepdim=True)
    wide = (attention > mean).float().mean(2).clamp_min(1e-6)
    weight = torch.log(wide.sum(1, keepdim=True) / wide)
    features = F.normalize((keys * weight[..., None, None]).transpose(1, 2).flatten(2), dim=2)
    seed = (attention * weight[..., None]).sum(1).argmin(1)
    background = features[torch.arange(len(seed), device=seed.device), seed]
    cosine = torch.einsum("bnd,bd->bn", features, background)
    return torch.sigmoid(SLOPE * (threshold - cosine))


class ViTEstimator:
    """Segments the salient object with a timm vision transformer; a drop-in for ``SaliencyEstimator``."""

    def __init__(
        self,
        model: str = "vit_small_patch16_224.dino",
        *,
        weights: str | Path | None = "pretrained",
        image_size: int = 448,
        threshold: float = 0.3,
        working_pixels: int = 67_500,
        refined: bool = True,
        device: str = "cpu",
        precision: Precision = "fp32",
    ):
        """Build the transformer.

        Args:
            model: name of a timm vision transformer with a class token. Self-supervised weights (DINO) keep the method
                free of labels; for DINOv2 use the variants with registers.
            weights: a weights file (see ``fss.models.weights``), "pretrained" (downloaded by timm), or None (random).
            image_size: side in pixels of the network's square input; a multiple of the patch size.
            threshold: cosine above which a patch is background.
            working_pixels: size in pixels at which masks are refined.
            refined: whether masks follow the edges of the image.
            device: where the transformer runs.
            precision: precision of its arithmetic.
        """
        self.network = _create(model, weights, image_size).to(device).eval()
        self.image_size, self.threshold, self.precision = image_size, threshold, precision
        self.working_pixels, self.refined = working_pixels, refined
        self._projections: list[Tensor] = []
        self.network.blocks[-1].attn.qkv.register_forward_hook(lambda _, __, out: self._projections.append(out))

    def estimate(self, rgb: Rgb, *, image_id: str = "") -> SaliencyResult:
        """Segment the salient object of an RGB image, uint8 [H,W,3]; see ``SaliencyEstimator.estimate``."""
        return self.estimate_batch([rgb])[0]

    @torch.no_grad()
    def estimate_batch(self, images: Sequence[Rgb]) -> list[SaliencyResult]:
        """Segment several images, uint8 [H,W,3] each, in one pass and one pass of their mirror images."""
        device = next(self.network.parameters()).device
        norm = self.network.pretrained_cfg or {}
        batch = resize_images(images, self.image_size, self.image_size).to(device)
        batch = normalize_images(batch, norm.get("mean", (0.5,) * 3), norm.get("std", (0.5,) * 3))
        views = torch.stack([self._maps(batch), self._maps(batch.flip(3)).flip(2)], 1).cpu().numpy()
        return [
            result_of_views(rgb, pair, working_pixels=self.working_pixels, refined=self.refined)
            for rgb, pair in zip(images, views, strict=True)
        ]

    def _maps(self, batch: Tensor) -> Tensor:
        """Return object maps on the grid of patches, [B,rows,columns]."""
        with autocast(batch.device, self.precision):
            keys, attention = self._keys_and_attention(batch)
        rows, columns = self.network.patch_embed.grid_size
        return object_map(keys.float(), attention.float(), threshold=self.threshold).reshape(len(batch), rows, columns)

    def _keys_and_attention(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Compute keys and class attention from the last block's projection; fused kernels do not expose them."""
        self._projections.clear()
        self.network.forward_features(batch)
        layer = self.network.blocks[-1].attn
        size, tokens, _ = self._projections[0].shape
        query, key, _ = self._projections.pop().reshape(size, tokens, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key = layer.q_norm(query), layer.k_norm(key)
        attention = (query[:, :, :1] @ key.transpose(2, 3) * layer.scale).softmax(3)[:, :, 0]
        first = self.network.num_prefix_tokens
        return key[:, :, first:], attention[:, :, first:]


def _create(model: str, weights: str | Path | None, image_size: int) -> Any:
    import timm

    pretrained = weights == "pretrained"
    try:
        network: Any = timm.create_model(model, pretrained=pretrained, img_size=image_size, num_classes=0)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"timm cannot build {model!r} at {image_size} pixels: {error}") from error
    fits = hasattr(network, "blocks") and hasattr(network.blocks[-1].attn, "qkv")
    if not fits or getattr(network, "cls_token", None) is None:
        raise ValueError(f"{model!r} is no vision transformer with a class token; try vit_small_patch16_224.dino")
    if weights is not None and not pretrained:
        translate = partial(translate_weights, network)  # resizes the position embedding too
        state = find_state_dict(open_weights(weights), network.state_dict(), translate)
        fitted = translate(state.tensors)
        load_own_modules(network, fitted, what=f"the transformer {model}", state=state, known=("head",))
    return network
