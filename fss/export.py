"""Export a segmenter as a program of its own: ``.pt2``, run by PyTorch without this package.

program = torch.export.load("segmenter.pt2").module()
logits = program(query, support_images, support_masks)
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fss.models import FewShotSegmenter

_TOLERANCE = 1e-4  # of the largest logit


def export_segmenter(
    segmenter: FewShotSegmenter, path: str | Path, *, size: Sequence[int], shots: int = 1, batch: int = 1
) -> float:
    """Write the program, run it beside the segmenter, and return how far their logits lie apart.

    Args:
        segmenter: the network; it is put into evaluation mode.
        path: file to write, usually ``.pt2``.
        size: height and width of the images; the program takes this size alone.
        shots: supports per episode, fixed as well.
        batch: episodes at a time, fixed as well.

    Returns:
        Largest difference of the logits, as a share of the largest logit.

    Raises:
        ValueError: images too small for the network, or a program whose logits differ; the file is then not kept.
    """
    segmenter.eval()
    device = next(segmenter.parameters()).device
    inputs = tuple(tensor.to(device) for tensor in _episode(batch, shots, *size))
    with torch.no_grad():
        expected = segmenter(*inputs)
        program = torch.export.export(segmenter, inputs, strict=False)
        torch.export.save(program, path)
        logits = torch.export.load(path).module()(*inputs)
    difference = float((logits - expected).abs().max() / expected.abs().max())
    if not difference <= _TOLERANCE:
        Path(path).unlink()
        raise ValueError(
            f"the exported program's logits differ by {difference:.1e} of the largest one, allowed is {_TOLERANCE}; "
            "nothing was kept"
        )
    return difference


def _episode(batch: int, shots: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return random images with the left half as object."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(batch, 3, height, width, generator=generator)
    supports = torch.randn(batch, shots, 3, height, width, generator=generator)
    masks = torch.zeros(batch, shots, height, width)
    masks[..., : width // 2] = 1
    return query, supports, masks
