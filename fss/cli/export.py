"""Export a segmenter as a program that runs without this package, and check that it gives the same logits.

    fss export --model runs/masksplit --output segmenter.onnx
    fss export --model birds@best --output segmenter.pt2 --shots 5

The program takes query [1,3,H,W], support_images [1,K,3,H,W] (ImageNet-normalised) and support_masks [1,K,H,W] of the
size that it was exported for, and returns logits [1,2,H,W].
"""

from pathlib import Path
from typing import Annotated, Literal, get_args

from annotated_types import Ge

from fss.core import storage
from fss.core.config import settings
from fss.core.exit_codes import SUCCESS
from fss.core.extras import require

Form = Literal["onnx", "pt2"]


@settings
class Config:
    """The arguments of ``fss export``."""

    model: str
    """Trained segmenter: its folder, an s3:// or MLflow URI, or a registered model's name."""
    output: str
    """Local file to write."""
    form: Form | None = None
    """Format of the program: onnx for other runtimes, or pt2 for PyTorch. None: as the name of the output ends."""
    shots: Annotated[int, Ge(1)] = 1
    """Supports of an episode."""
    batch_size: Annotated[int, Ge(1)] = 1
    """Episodes per call of the program."""
    image_size: Annotated[int, Ge(1)] | None = None
    """Side of the square images, in pixels. None: the size that the network was made for."""
    tracking: str | None = None
    """MLflow's store, for its models. None: MLFLOW_TRACKING_URI, or the store in this directory."""


def run(config: Config) -> int:
    """Export a segmenter and return the exit code.

    Raises:
        ValueError: the output is no local file or is named like the other format, there is no such model, or the
            logits of the program differ too much.
    """
    from fss.cli._make_masks import print_table
    from fss.inference.export import export_segmenter
    from fss.inference.model_files import local_checkpoint
    from fss.models import load_checkpoint

    output, form = _output(config)
    if form == "onnx":
        require("onnx", what="a program for ONNX")
    with local_checkpoint(config.model, tracking=config.tracking) as folder:
        segmenter = load_checkpoint(folder)
    side = config.image_size or segmenter.config.image_size
    output.parent.mkdir(parents=True, exist_ok=True)
    difference = export_segmenter(
        segmenter, output, size=(side, side), shots=config.shots, batch=config.batch_size, form=form
    )
    megabytes = output.stat().st_size / 1e6
    program = f"{config.output}, {megabytes:.1f} MB; its logits differ by {difference:.1e} of the largest"
    print_table(iter([("program", program)]))
    return SUCCESS


def _output(config: Config) -> tuple[Path, Form]:
    """Return the file to write and its format, which can be told before any work."""
    if storage.is_remote(config.output):
        raise ValueError(f"--output must be a local file, got {config.output}; write one, and copy it there")
    output = Path(storage.absolute_uri(config.output))
    if output.is_dir():
        raise ValueError(f"--output {config.output} is a folder; give a file, such as {output / 'segmenter.onnx'}")
    storage.check_writable(output.parent)
    forms: tuple[Form, ...] = get_args(Form)
    named = next((form for form in forms if output.suffix.lower() == f".{form}"), None)
    form = config.form or named
    if form is None:
        raise ValueError(f"--output {config.output} tells no format; end it with .onnx or .pt2, or give --form")
    if named not in (None, form):
        raise ValueError(f"--output {config.output} ends with .{named}, but --form is {form}; leave --form out")
    return output, form
