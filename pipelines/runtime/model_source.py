"""Models to load: a checkpoint of fss, a published file, an MLflow model, or a learner without training."""

import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pyarrow import fs as pafs

from fss.collection import Collection
from fss.core import storage
from fss.core.config import config_hash
from fss.core.hashing import file_hash
from fss.core.temporary import owned_prefix
from fss.inference.model_files import MLFLOW, download_model, local_copy
from fss.inference.painted import painted_model_note
from fss.models import FewShotSegmenter, SegmenterConfig, load_checkpoint, load_published
from fss.models.checkpoint import read_description
from fss.models.config import TRAINING_FREE, DensityConfig, Masking, training_free_config
from fss.tracking.run import tracking_uri
from pipelines.runtime.checkpoints import absolute_weights, checkpoint_hash
from pipelines.runtime.validation import check_weights, loading_weights

Kind = Literal["checkpoint", "published", "mlflow", "training-free"]


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model to load; plain values that every worker can use."""

    kind: Kind
    """Folder of a checkpoint (checkpoint), a published file (published), an MLflow model (mlflow), or a learner that
    needs no training (training-free)."""
    uri: str
    """URI of the folder, file or model, or the name of the learner."""
    learner: str = ""
    """Learner of a published file."""
    masking: str = ""
    """Masking strategy of a published file."""
    backbone: str = ""
    """Backbone of a published file."""
    benchmark: str = "pascal"
    """Benchmark that a published file was trained for."""
    backbone_weights: str | None = None
    """Backbone weights for a published file that holds none: a path, or pretrained."""
    tracking: str | None = None
    """Tracking store of an MLflow model."""
    network: SegmenterConfig | None = None
    """Settings of a training-free segmenter."""


def training_free_source(
    *,
    learner: str | None,
    masking: Masking | None = None,
    backbone: str | None = None,
    backbone_weights: str | None = None,
    saliency_prior: str | None = None,
    density: DensityConfig | None = None,
    image_size: int | None = None,
) -> ModelSource:
    """Return the source of a segmenter that needs no training, with pretrained weights unless others are given.

    Raises:
        ValueError: the learner needs training, or a file does not exist.
    """
    if learner not in TRAINING_FREE:
        reason = "there is no model" if learner is None else f"learner is {learner}, which needs a trained model"
        raise ValueError(f"{reason}; give --model, or --learner density, which needs no training")
    network = training_free_config(
        masking=masking or "none",
        backbone=backbone,
        backbone_weights=_absolute(backbone_weights),
        saliency_prior=saliency_prior and storage.absolute_uri(saliency_prior),
        density=density or DensityConfig(),
        image_size=image_size or SegmenterConfig().image_size,
        seed=0,
    )
    return ModelSource(kind="training-free", uri=f"{network.learner} on {network.backbone}", network=network)


def model_source(
    uri: str,
    *,
    learner: str | None = None,
    masking: str | None = None,
    backbone: str | None = None,
    backbone_weights: str | None = None,
    benchmark: str | None = None,
    tracking: str | None = None,
) -> ModelSource:
    """Return the source that ``uri`` names: an MLflow URI, a published file, or else the folder of a checkpoint.

    Raises:
        ValueError: learner, masking or backbone of a published file is missing, or one of them is given for a model
            that contains them.
    """
    options = {"learner": learner, "masking": masking, "backbone": backbone}
    kind: Kind = "mlflow" if uri.startswith(MLFLOW) else "published" if _is_file(uri) else "checkpoint"
    if kind == "published":
        if missing := [name for name, value in options.items() if value is None]:
            raise ValueError(
                f"{uri} is a single file, so a published checkpoint, which does not contain its settings. Give "
                f"{' and '.join(f'--{name}' for name in missing)} too, or the folder of a checkpoint of fss"
            )
        benchmark = "coco" if benchmark == "coco-to-pascal" else benchmark or "pascal"
        settings = {name: str(value) for name, value in options.items()}
        weights = _absolute(backbone_weights)
        return ModelSource(
            kind=kind,
            uri=storage.absolute_uri(uri),
            learner=settings["learner"],
            masking=settings["masking"],
            backbone=settings["backbone"],
            benchmark=benchmark,
            backbone_weights=weights,
        )
    options["backbone-weights"] = backbone_weights
    if unneeded := [name for name, value in options.items() if value is not None]:
        raise ValueError(f"{uri} contains its own settings; leave out {' and '.join(f'--{name}' for name in unneeded)}")
    if kind == "mlflow":
        return ModelSource(kind=kind, uri=uri, tracking=tracking_uri(tracking))
    return ModelSource(kind=kind, uri=storage.absolute_uri(uri))


def inspect_model(source: ModelSource, pictures: Collection | None = None) -> tuple[str, int]:
    """Load a model, and return a hash of its content (16 hex digits) and the side of its images in pixels.

    Loading takes about a second, and refuses weights before any worker starts. It warns of a model that was trained on
    painted shapes if the ``pictures`` that it is to segment are others.

    Raises:
        ValueError: there is no such model, or its weights do not fit its learner, masking and backbone.
    """
    if source.network is not None:
        segmenter, network = load_model(source), source.network
        named = ("backbone_weights", "saliency_prior")
        files = {name: _content(value) for name in named if (value := getattr(network, name)) is not None}
        return config_hash(network.identity() | files), segmenter.config.image_size
    with opened(source) as path:
        size = _load(source, path).config.image_size
        if source.kind != "published":
            if pictures is not None and not pictures.painted:
                _warn_if_painted(source, path, pictures)
            return checkpoint_hash(path), size
        settings, weights = [source.learner, source.masking, source.backbone, source.benchmark], source.backbone_weights
        hashes = [file_hash(path), weights and _content(weights)]
        return config_hash(settings, hashes), size


def _warn_if_painted(source: ModelSource, checkpoint: Path, pictures: Collection) -> None:
    advice = f"train one on these: python -m pipelines.masksplit --photographs {pictures.uri}"
    if note := painted_model_note(source.uri, read_description(checkpoint), advice):
        print(f"warning: {note}", file=sys.stderr, flush=True)


def load_model(source: ModelSource) -> FewShotSegmenter:
    """Load a model in evaluation mode, on the CPU.

    Raises:
        ValueError: there is no such model, or its weights do not fit the learner, masking and backbone given.
    """
    if source.network is not None:
        with loading_weights(source.network.backbone, source.network.backbone_weights):
            return FewShotSegmenter.from_config(source.network).eval()
    with opened(source) as path:
        return _load(source, path)


def _content(weights: str | Path) -> str:
    """Return the hash of a weights file; the library's own weights have none."""
    return str(weights) if weights == "pretrained" else file_hash(str(weights))


def _load(source: ModelSource, path: Path) -> FewShotSegmenter:
    if source.kind != "published":
        return load_checkpoint(path)
    with warnings.catch_warnings():
        # A published file without a backbone only warns, but the metrics of a random backbone are meaningless.
        warnings.filterwarnings("error", message=".*holds no backbone")
        try:
            return load_published(
                path,
                learner=source.learner,
                masking=source.masking,
                backbone=source.backbone,
                benchmark=source.benchmark,
                backbone_weights=source.backbone_weights,
            )
        except UserWarning as warning:
            raise ValueError(f"{source.uri} holds no backbone; give --backbone-weights") from warning


@contextmanager
def opened(source: ModelSource) -> Iterator[Path]:
    """Yield a local path of the model's folder or file, which is valid inside the block."""
    if source.kind == "checkpoint":
        with local_copy(source.uri) as folder:
            yield folder
        return
    filesystem, path = (None, "") if source.kind == "mlflow" else storage.resolve(source.uri)
    if isinstance(filesystem, pafs.LocalFileSystem):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix=owned_prefix("model")) as name:
        if filesystem is None:
            yield download_model(source.uri, name, tracking=source.tracking)
            return
        copy = Path(name) / Path(path).name
        pafs.copy_files(path, str(copy), source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem())
        yield copy


def _is_file(uri: str) -> bool:
    filesystem, path = storage.resolve(uri)
    return bool(filesystem.get_file_info(path).type == pafs.FileType.File)


def _absolute(weights: str | None) -> str | None:
    """Make the path of weights absolute, because workers run in other directories."""
    check_weights(weights)
    return None if weights is None else str(absolute_weights(weights))
