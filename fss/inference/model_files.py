"""Open the checkpoint of a segmenter from a folder, an object store or MLflow."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pyarrow import fs as pafs

from fss.core import storage
from fss.core.extras import require
from fss.core.temporary import owned_prefix
from fss.models.checkpoint import DESCRIPTION, read_description
from fss.tracking.store import require_store, tracking_uri

T = TypeVar("T")
MLFLOW = ("models:/", "runs:/")
HUB = "hf://"
"""Scheme of models of the Hugging Face Hub."""
_BELOW = (
    "",
    "model/",
    "*/model/",
    "models/*/model/",
)  # folders of a checkpoint, a training, several trainings, the masksplit job
_REGISTERED = re.compile(r"[\w.-]+(@[\w-]+)?")


@contextmanager
def local_checkpoint(model: str | Path, *, tracking: str | None = None) -> Iterator[Path]:
    """Yield the local folder of a checkpoint; downloaded files are deleted at the end of the block.

    Args:
        model: the folder of a checkpoint, or of a job that left a single checkpoint, such as ``runs/masksplit``; an
            s3:// URI; ``hf://user/name`` or ``hf://user/name@revision`` of the Hugging Face Hub; an MLflow URI
            (``models:/name/3``, ``runs:/id/model``); or the name of a registered model, optionally with an alias
            (``birds@best``; the default is the latest version).
        tracking: URI of the MLflow store; None uses ``MLFLOW_TRACKING_URI``, or the store in the working directory.

    Raises:
        ValueError: there is no checkpoint, or there are several.
    """
    text = str(model)
    if text.startswith(MLFLOW):
        with tempfile.TemporaryDirectory(prefix=owned_prefix("model")) as folder:
            yield download_model(text, folder, tracking=tracking)
    elif text.startswith(HUB):
        from fss.inference.hub import download_from_hub

        with tempfile.TemporaryDirectory(prefix=owned_prefix("model")) as folder:
            yield download_from_hub(text, folder)
    elif not storage.is_remote(text) and not Path(text).expanduser().exists() and _REGISTERED.fullmatch(text):
        uri = f"models:/{text}" if "@" in text else f"models:/{text}/latest"
        with tempfile.TemporaryDirectory(prefix=owned_prefix("model")) as folder:
            try:
                checkpoint = download_model(uri, folder, tracking=tracking)
            except ValueError as error:
                raise ValueError(f"there is neither a folder {text!r} nor a registered model: {error}") from error
            yield checkpoint
    else:
        with local_copy(text) as checkpoint:
            yield checkpoint


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """Yield the folder of a checkpoint; one in an object store is copied and deleted at the end of the block.

    Raises:
        ValueError: there is no checkpoint, or there are several, or the object store does not answer.
    """
    storage.check_access(uri)
    filesystem, path = storage.resolve(uri)
    if isinstance(filesystem, pafs.LocalFileSystem):
        yield _checkpoint_in(Path(path))
        return
    with tempfile.TemporaryDirectory(prefix=owned_prefix("model")) as folder:
        _download(filesystem, _remote_checkpoint(filesystem, path), Path(folder) / "model")
        yield Path(folder) / "model"


def _remote_checkpoint(filesystem: pafs.FileSystem, path: str) -> str:
    """Return the folder of the single checkpoint at or below a folder of an object store.

    Raises:
        ValueError: there is no checkpoint, or there are several.
    """
    checkpoints: list[str] = []
    for below in _BELOW:
        folders = [path]
        for name in below.split("/")[:-1]:
            names = [storage.list_names(filesystem, each) if name == "*" else [name] for each in folders]
            folders = [f"{folder}/{each}" for folder, inside in zip(folders, names, strict=True) for each in inside]
        files = filesystem.get_file_info([f"{folder}/{DESCRIPTION}" for folder in folders])
        checkpoints += [info.path.rpartition("/")[0] for info in files if info.is_file]
        if below == "" and checkpoints:
            return path
    checkpoint = _single(checkpoints, f"s3://{path}")
    if checkpoint is None:
        raise ValueError(f"s3://{path} is no checkpoint: it has no {DESCRIPTION}")
    return checkpoint


def _download(filesystem: pafs.FileSystem, path: str, folder: Path) -> None:
    """Copy a checkpoint; another attempt follows where a job replaces it meanwhile.

    Raises:
        ValueError: there is no checkpoint.
    """
    for attempt in range(3):
        folder.mkdir()
        pafs.copy_files(path, str(folder), source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem())
        try:
            read_description(folder)
        except ValueError:
            if attempt == 2:
                raise
            shutil.rmtree(folder)
        else:
            return


def download_model(uri: str, folder: str, *, tracking: str | None = None) -> Path:
    """Download a model from MLflow into ``folder`` and return the folder of its checkpoint.

    Raises:
        ValueError: there is no such store or model, or it does not belong to this library.
    """
    require("track", what=f"the model {uri} of MLflow")
    store = tracking_uri(tracking)
    require_store(store)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=store)
    except (MlflowException, OSError) as error:
        raise ValueError(f"there is no model {uri} in {store}: {error}") from error
    description = next(Path(folder).rglob(DESCRIPTION), None)
    if description is None:
        raise ValueError(f"{uri} is no model of fss: it holds no {DESCRIPTION}")
    return description.parent


def _checkpoint_in(folder: Path) -> Path:
    if not folder.exists():
        raise ValueError(
            f"there is no folder {folder}; give the folder of a checkpoint or of a job, an s3:// or hf:// URI, or a "
            "model of MLflow, such as models:/birds@best"
        )
    checkpoints = [path.parent for below in _BELOW for path in sorted(folder.glob(f"{below}{DESCRIPTION}"))]
    checkpoint = _single(checkpoints, folder) or folder
    read_description(checkpoint)
    return checkpoint


def _single(checkpoints: Sequence[T], folder: object) -> T | None:
    """Return the only checkpoint of a folder, None for none; several are an error."""
    if len(checkpoints) > 1:
        names = ", ".join(str(path) for path in checkpoints)
        raise ValueError(f"{folder} holds {len(checkpoints)} checkpoints; name one of them: {names}")
    return checkpoints[0] if checkpoints else None
