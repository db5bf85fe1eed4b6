"""The notebooks are kept with small outputs that say nothing of a machine, and executing them again gives the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
pytest.importorskip("nbclient", reason="nbclient is not installed")

from tests.helpers.notebooks import NOTEBOOKS, WIDTH, differences, execute, pictures, prepare  # noqa: E402

PICTURES = {
    "01-own-photographs": 5,
    "02-pseudo-masks-and-splits": 6,
    "03-train-and-track": 2,
    "04-results-and-rounds": 3,
}
MACHINE = re.compile(r"/home/|/root/|/tmp/(?!folder)|/work/|\d (s|min)\b|seconds|per second")
"""What differs from machine to machine: folders, and measured times."""


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_small_outputs(path: Path) -> None:
    notebook = read(path)
    assert path.stat().st_size < 400_000
    shown = pictures(notebook)
    assert len(shown) == PICTURES[path.stem]
    assert all(picture.width <= WIDTH and picture.format == "JPEG" for picture in shown)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [
        {kind: text for kind, text in output.get("data", output).items() if "image" not in kind} for output in outputs
    ]
    assert not MACHINE.search(json.dumps(texts)), MACHINE.search(json.dumps(texts))
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "executed from top to bottom"


def test_other_outputs_are_told() -> None:
    path = NOTEBOOKS[1]
    changed = read(path)
    assert not list(differences(read(path), changed))
    code = [cell for cell in changed.cells if cell.cell_type == "code"]
    first = code[0].outputs[-1].data
    first["image/jpeg"] = code[1].outputs[-1].data["image/jpeg"]
    code[-1].outputs = [nbformat.v4.new_output("stream", text="mIoU 44.1")]
    told = list(differences(read(path), changed))
    assert len(told) == 2 and "picture" in told[0] and "outputs are ['text']" in told[1]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of the main job on the painted sample."""
    folder = tmp_path_factory.mktemp("home")
    prepare(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_its_outputs_again(path: Path, home: Path) -> None:
    assert not list(differences(read(path), execute(path, home)))
