"""Export a segmenter as a program that runs without this package, and check that it gives the same logits.

program = torch.export.load("segmenter.pt2").module()             # .pt2, run by PyTorch
logits = program(query, support_images, support_masks)

session = onnxruntime.InferenceSession("segmenter.onnx")          # .onnx, run anywhere
(logits,) = session.run(None, {"query": ..., "support_images": ..., "support_masks": ...})
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from fss.core.extras import require
from fss.models import FewShotSegmenter
from fss.models.backbones.vit import explicit_attention

Form = Literal["pt2", "onnx"]
INPUTS = ("query", "support_images", "support_masks")
_TOLERANCE = {"pt2": 1e-4, "onnx": 1e-3}  # share of the largest logit; other runtimes sum in a different order
_CHANGED = 1e-4  # share of the pixels whose decision may change

Program = Callable[[Sequence[Tensor]], Tensor]
"""Returns the logits of an exported program for query, supports and masks."""


def export_segmenter(
    segmenter: FewShotSegmenter,
    path: str | Path,
    *,
    size: Sequence[int],
    shots: int = 1,
    batch: int = 1,
    form: Form = "pt2",
) -> float:
    """Export a segmenter and compare the logits and decisions of the program with those of the segmenter.

    They are compared for masks of several kinds, because a masked network is sensitive to its mask's outline: half of
    the picture, a disc, a thin line, and a small object.

    Args:
        segmenter: the network; it is set to evaluation mode.
        path: file to write, usually ``.pt2`` or ``.onnx``.
        size: height and width of the images, in pixels. The program accepts only this size.
        shots: supports per episode, which the program fixes too; it returns the mean of the shots' logits.
        batch: episodes per call, which the program fixes too.
        form: ``pt2`` for PyTorch, or ``onnx`` (opset 18) for other runtimes, which needs the packages onnx, onnxscript
            and onnxruntime.

    Returns:
        The largest difference of the logits over all kinds of masks, as a share of the largest logit.

    Raises:
        ValueError: the images are too small for the network, the form is unknown, packages are missing, or logits or
            decisions differ too much. In the last case the file is deleted.
    """
    if form not in get_args(Form):
        raise ValueError(f"form must be {' or '.join(get_args(Form))}, got {form!r}")
    segmenter.eval()
    device = next(segmenter.parameters()).device
    *images, kinds = (tensor.to(device) for tensor in _episode(batch, shots, *size))
    write: Callable[[FewShotSegmenter, tuple[Tensor, ...], Path], Program] = {"pt2": _pt2, "onnx": _onnx}[form]
    with torch.no_grad():
        program = write(segmenter, (*images, kinds[0]), Path(path))
        pairs = [(program((*images, masks)).to(device), segmenter(*images, masks)) for masks in kinds]
    difference = max(float((logits - expected).abs().max() / expected.abs().max()) for logits, expected in pairs)
    changed = max(float((logits.argmax(1) != expected.argmax(1)).float().mean()) for logits, expected in pairs)
    if not difference <= _TOLERANCE[form] or changed > _CHANGED:
        Path(path).unlink()
        raise ValueError(
            f"the logits of the exported program differ by {difference:.1e} of the largest logit, and {changed:.1e} of "
            f"its decisions; allowed are {_TOLERANCE[form]} and {_CHANGED}. The file was deleted."
        )
    return difference


def _pt2(segmenter: FewShotSegmenter, inputs: tuple[Tensor, ...], path: Path) -> Program:
    torch.export.save(torch.export.export(segmenter, inputs, strict=False), path)
    program = torch.export.load(path).module()
    return lambda values: program(*values)


def _onnx(segmenter: FewShotSegmenter, inputs: tuple[Tensor, ...], path: Path) -> Program:
    require("onnx", what="a program for ONNX")
    import onnxruntime
    import onnxscript  # noqa: F401  # used by PyTorch's exporter

    with explicit_attention(segmenter):
        program = torch.onnx.export(
            segmenter, inputs, dynamo=True, opset_version=18, input_names=INPUTS, output_names=["logits"], verbose=False
        )
    assert program is not None
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(values: Sequence[Tensor]) -> Tensor:
        (logits,) = session.run(None, {name: v.cpu().numpy() for name, v in zip(INPUTS, values, strict=True)})
        return torch.from_numpy(logits)

    return run


def _episode(batch: int, shots: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a random query, random supports, and masks ``[4,batch,shots,H,W]`` of four kinds."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(batch, 3, height, width, generator=generator)
    supports = torch.randn(batch, shots, 3, height, width, generator=generator)
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    disc, line = (y - 0.1) ** 2 + (x + 0.1) ** 2 < 0.36, (y - x).abs() < 4 / min(height, width)
    kinds = torch.stack([x < 0, disc, line, (y + 0.4) ** 2 + (x - 0.2) ** 2 < 0.01]).float()
    return query, supports, kinds[:, None, None].expand(-1, batch, shots, -1, -1).contiguous()
