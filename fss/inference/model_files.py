"""A segmenter's checkpoint, wherever it is: a folder, an object store, or a model in MLflow."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs as pafs

from fss.core import storage
from fss.models.checkpoint import read_description
from fss.tracking.run import tracking_uri

MLFLOW = ("models:/", "runs:/")
DESCRIPTION = "segmenter.json"
_BELOW = ("", "model/", "*/model/", "models/*/model/")  # a checkpoint, a training, trainings, the main job's folder
_REGISTERED = re.compile(r"[\w.-]+(@[\w-]+)?")


@contextmanager
def local_checkpoint(place: str | Path, *, tracking: str | None = None) -> Iterator[Path]:
    """Give a checkpoint's folder as a local one for the length of a block.

    Args:
        place: a checkpoint's folder (or one above that holds a single checkpoint, such as ``runs/masksplit``), an
            s3:// URI, an MLflow URI (``models:/name/3``, ``runs:/id/model``), or the name of a registered model,
            with its alias where it has one (``birds@best``; without, the latest version).
        tracking: where MLflow keeps its models; None: ``MLFLOW_TRACKING_URI``, or this directory's store.

    Raises:
        ValueError: there is no checkpoint, or there are several.
    """
    text = str(place)
    if text.startswith(MLFLOW):
        with tempfile.TemporaryDirectory() as folder:
            yield download_model(text, folder, tracking=tracking)
    elif not storage.is_remote(text) and not Path(text).expanduser().exists() and _REGISTERED.fullmatch(text):
        uri = f"models:/{text}" if "@" in text else f"models:/{text}/latest"
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = download_model(uri, folder, tracking=tracking)
            except ValueError as error:
                raise ValueError(f"there is neither a folder {text!r} nor a registered model: {error}") from error
            yield found
    else:
        with local_copy(text) as folder_:
            yield folder_


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """Give a checkpoint's folder as a local one for the length of a block; object stores are copied.

    Raises:
        ValueError: there is no checkpoint.
    """
    filesystem, path = storage.resolve(uri)
    if isinstance(filesystem, pafs.LocalFileSystem):
        yield _checkpoint_in(Path(path))
        return
    with tempfile.TemporaryDirectory() as folder:
        pafs.copy_files(path, folder, source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem())
        read_description(folder)
        yield Path(folder)


def download_model(uri: str, folder: str, *, tracking: str | None = None) -> Path:
    """Copy a model from MLflow and return the checkpoint in it.

    Raises:
        ValueError: there is no such model, or it is none of this library.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow
    from mlflow.exceptions import MlflowException

    store = tracking_uri(tracking)
    try:
        mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=store)
    except (MlflowException, OSError) as error:
        raise ValueError(f"there is no model {uri} in {store}: {error}") from error
    found = next(Path(folder).rglob(DESCRIPTION), None)
    if found is None:
        raise ValueError(f"{uri} is no model of fss: it holds no {DESCRIPTION}")
    return found.parent


def _checkpoint_in(folder: Path) -> Path:
    found = [path.parent for below in _BELOW for path in sorted(folder.glob(f"{below}{DESCRIPTION}"))]
    if len(found) > 1:
        names = ", ".join(str(path) for path in found)
        raise ValueError(f"{folder} holds {len(found)} checkpoints; name one of them: {names}")
    read_description(found[0] if found else folder)
    return found[0] if found else folder
