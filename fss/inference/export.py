"""Export a segmenter as a program that runs without this package, and check that it gives the same logits.

program = torch.export.load("segmenter.pt2").module()             # .pt2, run by PyTorch
logits = program(query, support_images, support_masks)

session = onnxruntime.InferenceSession("segmenter.onnx")          # .onnx, run anywhere
(logits,) = session.run(None, {"query": ..., "support_images": ..., "support_masks": ...})
"""

import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from fss.inference.parity import CHANGED, check_episodes, compare
from fss.inference.runtimes import open_program, write_onnx
from fss.models import FewShotSegmenter

Form = Literal["pt2", "onnx"]
INPUTS = ("query", "support_images", "support_masks")
_TOLERANCE = {"pt2": 1e-4, "onnx": 1e-3}  # share of the largest logit; other runtimes sum in a different order

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

    They are compared for masks of several kinds (:func:`fss.inference.parity.check_episodes`).

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
            decisions differ too much. Then nothing is written, and a file that was there stays.
    """
    if form not in get_args(Form):
        raise ValueError(f"form must be {' or '.join(get_args(Form))}, got {form!r}")
    segmenter.eval()
    device = next(segmenter.parameters()).device
    episodes = [tuple(tensor.to(device) for tensor in episode) for episode in check_episodes(batch, shots, *size)]
    write: Callable[[FewShotSegmenter, tuple[Tensor, ...], Path], Program] = {"pt2": _pt2, "onnx": _onnx}[form]
    path = Path(path)
    with torch.no_grad(), tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        program = write(segmenter, episodes[0], temporary)
        parity = compare((program(episode).to(device), segmenter(*episode)) for episode in episodes)
        if not parity.within(logits=_TOLERANCE[form], decisions=CHANGED):
            raise ValueError(
                f"the logits of the exported program differ by {parity}; allowed are {_TOLERANCE[form]} and {CHANGED}. "
                "Nothing was written"
            )
        temporary.replace(path)
    return parity.logits


def _pt2(segmenter: FewShotSegmenter, inputs: tuple[Tensor, ...], path: Path) -> Program:
    data = io.BytesIO()  # torch's writer of files aborts the process on a full disk
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found in the group")  # of weights that share memory
        torch.export.save(torch.export.export(segmenter, inputs, strict=False), data)
    path.write_bytes(data.getbuffer())
    program = torch.export.load(path).module()
    return lambda values: program(*values)


def _onnx(segmenter: FewShotSegmenter, inputs: tuple[Tensor, ...], path: Path) -> Program:
    write_onnx(segmenter, inputs, path, input_names=INPUTS, output_names=["logits"])
    program = open_program(path, "onnxruntime")
    return lambda values: program(values)[0]
