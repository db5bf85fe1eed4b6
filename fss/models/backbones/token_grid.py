"""Resampling of a transformer's token grid to maps that cover exactly the image.

Token i of a row covers the pixels ``i * patch`` to ``(i + 1) * patch - 1`` of the padded image. The maps of all
backbones are compared with masks and enlarged to logits with aligned corners: cell i of n cells stands for the pixel
``i * (size - 1) / (n - 1)``. :func:`resample_tokens` samples the tokens at these pixels, so that neither the padding
nor the size of the patch shifts a position.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def cell_count(side: int, reduction: int) -> int:
    """Return the number of cells on a side of so many pixels, which is that of a convolutional network."""
    return -(-side // reduction)


def resample_tokens(tokens: Tensor, patch: float, size: Sequence[int], cells: Sequence[int]) -> Tensor:
    """Resample tokens ``[B,C,h,w]`` to ``[B,C,*cells]``, by linear interpolation or, to fewer cells, weighted means.

    Args:
        tokens: values of square patches of the padded image.
        patch: side of a patch, in pixels.
        size: height and width of the image without its padding, in pixels.
        cells: height and width of the result, in cells.
    """
    rows, columns = (
        sampling_matrix(count, patch, side, number, tokens.device).to(tokens.dtype)
        for count, side, number in zip(tokens.shape[-2:], size, cells, strict=True)
    )
    return rows @ (tokens @ columns.T)


def sampling_matrix(tokens: int, patch: float, size: int, cells: int, device: torch.device) -> Tensor:
    """Return the share of each token in each cell, ``[cells,tokens]``; arguments as in :func:`resample_tokens`."""
    spacing = (size - 1) / max(1, cells - 1)
    pixels = torch.arange(cells, device=device) * spacing if cells > 1 else torch.full((1,), spacing / 2, device=device)
    centres = ((pixels + 0.5) / patch - 0.5).clamp(0, tokens - 1)
    distances = (torch.arange(tokens, device=device) - centres[:, None]).abs()
    shares = (1 - distances / max(1.0, spacing / patch)).clamp(min=0)
    return shares / shares.sum(1, keepdim=True)
