"""Every notebook runs from its first cell to its last, and is kept without what it printed."""

import os
from pathlib import Path

import pytest

from fss.models import create_segmenter, save_checkpoint

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert len(cells) > 5
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def execute(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a notebook in ``home/notebooks``; returns the kinds of what it showed."""
    (home / "notebooks").mkdir(exist_ok=True)
    places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(home / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [kind for output in shown for kind in output.get("data", {})]


@pytest.mark.slow
def test_own_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = create_segmenter(backbone="timm:test_resnet.r160_in1k", image_size=96, width=32)
    save_checkpoint(network, tmp_path / "runs" / "masksplit" / "models" / "untrained" / "model")
    assert execute("01-own-photographs", tmp_path, monkeypatch).count("image/png") == 5


def test_pseudo_masks_and_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert execute("02-pseudo-masks-and-splits", tmp_path, monkeypatch).count("image/png") == 6


@pytest.mark.slow
def test_train_and_track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert execute("03-train-and-track", tmp_path, monkeypatch).count("image/png") == 2


@pytest.mark.slow
def test_results_and_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import masksplit
    from pipelines.runtime.config import TrackingConfig

    masksplit.run(
        masksplit.MaskSplitJobConfig(
            workdir=str(tmp_path / "runs" / "masksplit"),
            limit=48,
            steps=20,
            episodes=20,
            shots=(1,),
            tracking=TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"),
        )
    )
    shown = execute("04-results-and-rounds", tmp_path, monkeypatch)
    assert shown.count("image/png") == 3
    assert "text/markdown" in shown
