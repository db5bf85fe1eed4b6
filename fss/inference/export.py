"""Export a segmenter as a program of its own, run without this package, after a check that it answers the same.

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

Form = Literal["pt2", "onnx"]
INPUTS = ("query", "support_images", "support_masks")
_TOLERANCE = {"pt2": 1e-4, "onnx": 1e-3}  # of the largest logit; another runtime adds its sums in another order


def export_segmenter(
    segmenter: FewShotSegmenter,
    path: str | Path,
    *,
    size: Sequence[int],
    shots: int = 1,
    batch: int = 1,
    form: Form = "pt2",
) -> float:
    """Write the program, run it beside the segmenter, and return how far their logits lie apart.

    Args:
        segmenter: the network; it is put into evaluation mode.
        path: file to write, usually ``.pt2`` or ``.onnx``.
        size: height and width of the images; the program takes this size alone.
        shots: supports per episode, fixed as well; their answer is the mean of the shots' logits.
        batch: episodes at a time, fixed as well.
        form: pt2 for PyTorch; onnx (opset 18) for other runtimes, which needs onnx, onnxscript and onnxruntime.

    Returns:
        Largest difference of the logits, as a share of the largest logit.

    Raises:
        ValueError: images too small for the network, an unknown form, packages that are missing, or a program whose
            logits differ; the file is then not kept.
    """
    if form not in get_args(Form):
        raise ValueError(f"a segmenter is exported as {' or '.join(get_args(Form))}, got {form!r}")
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
            f"the exported program's logits differ by {difference:.1e} of the largest one, allowed is "
            f"{_TOLERANCE[form]}; nothing was kept"
        )
    return difference


def _pt2(segmenter: FewShotSegmenter, inputs: tuple[Tensor, ...], path: Path) -> Tensor:
    program = torch.export.export(segmenter, inputs, strict=False)
    torch.export.save(program, path)
    answer: Tensor = torch.export.load(path).module()(*inputs)
    return answer


def _onnx(segmenter: FewShotSegmenter, inputs: tuple[Tensor, ...], path: Path) -> Tensor:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # what PyTorch's exporter is written with
    except ImportError as error:
        raise ValueError(f"ONNX needs the package {error.name}; install it with pip install 'fss[onnx]'") from error
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
    """Return random images with the left half as object."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(batch, 3, height, width, generator=generator)
    supports = torch.randn(batch, shots, 3, height, width, generator=generator)
    masks = torch.zeros(batch, shots, height, width)
    masks[..., : width // 2] = 1
    return query, supports, masks
