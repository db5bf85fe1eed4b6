"""Execution of the notebooks, what of their outputs is kept, and how outputs of two machines are compared.

    python -m tests.helpers.notebooks

runs ``pipelines.masksplit`` on the painted sample, executes all notebooks beside it, and writes their outputs into
``notebooks/``: pictures as small JPEGs, texts without folders of this machine, and nothing of standard error. It works
in ``FSS_NOTEBOOK_HOME``, or in a temporary folder of a fixed name, and repeats nothing that is finished there.
"""

import base64
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOKS = tuple(sorted((ROOT / "notebooks").glob("*.ipynb")))
WIDTH, QUALITY = 720, 55
"""Widest picture in pixels, and quality of its JPEG."""
SECONDS = 900
PICTURES = ("image/png", "image/jpeg")
SIDE, GREY_LEVELS = 32, 14.0
"""Two pictures are alike if they differ by less than these grey levels on average at this side."""
ABSOLUTE, RELATIVE = 4.0, 0.15
"""Two numbers are alike within the larger of these tolerances; numbers below 1 within 0.15."""
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_TEMPORARY = re.compile(r"/(?:tmp|var/folders|private/var)/[\w./+-]*?tmp\w+")


def execute(path: Path, home: Path) -> Any:
    """Run a notebook in ``home/notebooks``, and return it with its outputs, cleaned.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    folder = home / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONWARNINGS": "ignore"}
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | variables
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}})
    client.execute(env=environment)
    clean(notebook, home)
    return notebook


def clean(notebook: Any, home: Path) -> None:
    """Keep of the outputs what is the same wherever the notebook runs."""
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            kept = [_cleaned(output, home) for output in cell.outputs if output.get("name") != "stderr"]
            cell.outputs = [output for output in kept if output is not None]


def _cleaned(output: Any, home: Path) -> Any:
    if output.output_type == "stream":
        output.text = _without_folders(output.text, home)
        return output if output.text.strip() else None
    output.metadata = {}
    data = output.data
    if not data.get("text/plain", "nothing").strip():
        return None  # rich shows empty lines so
    for kind in PICTURES:
        if kind in data:
            encoded = _small(base64.b64decode(data.pop(kind)))
            output.data = {"image/jpeg": base64.b64encode(encoded).decode(), "text/plain": "<picture>"}
            return output
    output.data = {kind: _without_folders("".join(text), home) for kind, text in data.items()}
    return output


def _without_folders(text: str, home: Path) -> str:
    return _TEMPORARY.sub("/tmp/folder", text.replace(str(home.resolve()), "..").replace(str(home), ".."))


def _small(encoded: bytes) -> bytes:
    """Return a picture as a JPEG that is at most :data:`WIDTH` wide."""
    with Image.open(io.BytesIO(encoded)) as opened:
        picture = opened.convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def differences(expected: Any, actual: Any) -> Iterator[str]:
    """Yield what differs between the outputs of a notebook and those of another execution."""
    for number, (old, new) in enumerate(zip(expected.cells, actual.cells, strict=True)):
        if old.cell_type != "code":
            continue
        kinds = [[*map(_kind, cell.outputs)] for cell in (old, new)]
        if kinds[0] != kinds[1]:
            yield f"cell {number}: outputs are {kinds[1]} and not {kinds[0]}"
            continue
        for before, after in zip(old.outputs, new.outputs, strict=True):
            if why := _difference(before, after):
                yield f"cell {number}: {why}"


def pictures(notebook: Any) -> list[Image.Image]:
    """Return the pictures that a notebook shows."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    encoded = [output.data["image/jpeg"] for output in outputs if "image/jpeg" in output.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in encoded]


def _kind(output: Any) -> str:
    return "text" if output.output_type == "stream" else min(output.data, default="nothing")


def _difference(before: Any, after: Any) -> str:
    """Return in what two outputs of one kind differ; empty if they are alike."""
    if "image/jpeg" in before.get("data", {}):
        return _picture_difference(*(base64.b64decode(output.data["image/jpeg"]) for output in (before, after)))
    return _text_difference(_text(before), _text(after))


def _text(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    return "\n".join(output.data[kind] for kind in sorted(output.data))  # a file has them sorted


def _picture_difference(before: bytes, after: bytes) -> str:
    opened = [Image.open(io.BytesIO(encoded)).convert("L") for encoded in (before, after)]
    if abs(opened[0].width - opened[1].width) > 2 or abs(opened[0].height - opened[1].height) > 0.1 * opened[0].height:
        return f"the picture has {opened[1].size} pixels and not {opened[0].size}"
    small = [np.asarray(picture.resize((SIDE, SIDE)), np.float64) for picture in opened]
    distance = float(np.abs(small[0] - small[1]).mean())
    return f"the picture differs by {distance:.1f} grey levels" if distance > GREY_LEVELS else ""


def _text_difference(before: str, after: str) -> str:
    words = [_NUMBER.sub("#", re.sub(r"[-\s|]+", " ", text)).strip() for text in (before, after)]
    if words[0] != words[1]:
        return f"the text is {after!r} and not {before!r}"
    for old, new in zip(*(map(float, _NUMBER.findall(text)) for text in (before, after)), strict=True):
        tolerance = max(ABSOLUTE, RELATIVE * abs(old)) if abs(old) >= 1 else RELATIVE
        if abs(old - new) > tolerance:
            return f"{new:g} is far from {old:g} in {after!r}"
    return ""


def main() -> None:
    """Execute all notebooks, or those that are named, and write their outputs."""
    names = sys.argv[1:]
    home = Path(os.environ.get("FSS_NOTEBOOK_HOME", tempfile.gettempdir() + "/fss-notebooks")).resolve()
    prepare(home)
    for path in NOTEBOOKS:
        if not names or path.stem in names:
            print(f"executing {path.name}", flush=True)
            nbformat.write(execute(path, home), path)  # type: ignore[no-untyped-call]


def prepare(home: Path) -> None:
    """Train the segmenter of the painted sample in ``home/runs/masksplit``, unless it is there."""
    from pipelines import masksplit
    from pipelines.end_to_end.presets import sample
    from pipelines.runtime.config import TrackingConfig

    home.mkdir(parents=True, exist_ok=True)
    tracking = TrackingConfig(uri=f"sqlite:///{home}/mlflow.db")
    masksplit.run(replace(sample(), output=str(home / "runs" / "masksplit"), tracking=tracking))


if __name__ == "__main__":
    main()
