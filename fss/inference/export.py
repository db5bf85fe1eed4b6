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

from fss.models import FewShotSegmenter
from fss.models.backbones.vit import explicit_attention

Form = Literal["pt2", "onnx"]
INPUTS = ("query", "support_images", "support_masks")
_TOLERANCE = {"pt2": 1e-4, "onnx": 1e-3}  # share of the largest logit; other runtimes sum in a different order


def export_segmenter(
    segmenter: FewShotSegmenter,
    path: str | Path,
    *,
    size: Sequence[int],
    shots: int = 1,
    batch: int = 1,
    form: Form = "pt2",
) -> float:
    """Export a segmenter and compare the logits of the program with those of the segmenter.

    Args:
        segmenter: the network; it is set to evaluation mode.
        path: file to write, usually ``.pt2`` or ``.onnx``.
        size: height and width of the images, in pixels. The program accepts only this size.
        shots: supports per episode, which the program fixes too; it returns the mean of the shots' logits.
        batch: episodes per call, which the program fixes too.
        form: ``pt2`` for PyTorch, or ``onnx`` (opset 18) for other runtimes, which needs the packages onnx, onnxscript
            and onnxruntime.

    Returns:
        The largest difference of the logits, as a share of the largest logit.

    Raises:
        ValueError: the images are too small for the network, the form is unknown, packages are missing, or the logits
            differ too much. In the last case the file is deleted.
    """
    if form not in get_args(Form):
        raise ValueError(f"form must be {' or '.join(get_args(Form))}, got {form!r}")
    segmenter.eval()
    device = next(segmenter.parameters()).device
    inputs = tuple(tensor.to(device) for tensor in _episode(batch, shots, *size))
    with torch.no_grad():
        expected = segmenter(*inputs)
        write_and_run: Callable[..., Tensor] = {"pt2": _pt2, "onnx": _onnx}[form]
        logits = write_and_run(segmenter, inputs, Path(path))
    difference = float((logits.to(device) - expected).abs().max() / expected.abs().max())
    if not difference <= _TOLERANCE[form]:
        Path(path).unlink()
        raise ValueError(
            f"the logits of the exported program differ by {difference:.1e} of the largest logit; allowed are "
            f"{_TOLERANCE[form]}. The file was deleted."
        )
    return difference


def _pt2(segmenter: FewShotSegmenter, inputs: tuple[Tensor, ...], path: Path) -> Tensor:
    program = torch.export.export(segmenter, inputs, strict=False)
    torch.export.save(program, path)
    logits: Tensor = torch.export.load(path).module()(*inputs)
    return logits


def _onnx(segmenter: FewShotSegmenter, inputs: tuple[Tensor, ...], path: Path) -> Tensor:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # used by PyTorch's exporter
    except ImportError as error:
        raise ValueError(
            f"ONNX needs the package {error.name}; install it with pip install 'fss-masks[onnx]'"
        ) from error
    with explicit_attention(segmenter):
        program = torch.onnx.export(
            segmenter, inputs, dynamo=True, opset_version=18, input_names=INPUTS, output_names=["logits"], verbose=False
        )
    assert program is not None
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    values = {name: tensor.cpu().numpy() for name, tensor in zip(INPUTS, inputs, strict=True)}
    (logits,) = session.run(None, values)
    return torch.from_numpy(logits)


def _episode(batch: int, shots: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a random query, random supports, and masks whose left half is the object."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(batch, 3, height, width, generator=generator)
    supports = torch.randn(batch, shots, 3, height, width, generator=generator)
    masks = torch.zeros(batch, shots, height, width)
    masks[..., : width // 2] = 1
    return query, supports, masks
