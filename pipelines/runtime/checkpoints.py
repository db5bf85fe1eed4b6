"""Checkpoints in storage: local copies, hashes, and the weights that trainings start from."""

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pyarrow import fs as pafs

from fss.core import storage
from fss.core.config import config_hash
from fss.core.hashing import file_hash
from fss.core.json_values import parse_object
from fss.core.temporary import owned_prefix
from fss.inference.model_files import local_copy
from fss.models.checkpoint import DESCRIPTION, read_description, save_checkpoint, weights_file
from fss.models.config import AUTO, TRAINING_FREE, SegmenterConfig
from fss.models.semantic.checkpoint import DESCRIPTION as SEMANTIC_DESCRIPTION
from fss.models.weights.pair import check_pair, weights_name, write_pair

if TYPE_CHECKING:
    from ray.train import Checkpoint

    from fss.models import FewShotSegmenter

__all__ = [
    "absolute_files",
    "absolute_weights",
    "checkpoint_hash",
    "local_copy",
    "network_hashes",
    "publish",
    "publish_untrained",
    "weights_hash",
]


def checkpoint_hash(folder: Path) -> str:
    """Return 16 hex digits that identify a checkpoint: the SHA-256 of its weights.

    Without training the settings decide the predictions, so they are part of the hash.
    """
    weights, network = file_hash(weights_file(folder)), read_description(folder)["segmenter"]
    return config_hash([weights, network["density"]]) if network["learner"] in TRAINING_FREE else weights


def publish(checkpoint: "Checkpoint", folder: str, target: str) -> str:
    """Copy the folder ``folder`` of a checkpoint to the URI ``target``, and return ``target``.

    Segmenters and semantic networks are replaced as one.
    """
    return _copy(f"{checkpoint.path}/{folder}", checkpoint.filesystem, target)


def publish_untrained(segmenter: "FewShotSegmenter", target: str) -> str:
    """Write the checkpoint of a segmenter that needs no training to the URI ``target``, and return ``target``."""
    with tempfile.TemporaryDirectory(prefix=owned_prefix("model")) as folder:
        return _copy(str(save_checkpoint(segmenter, folder)), pafs.LocalFileSystem(), target)


def _copy(folder: str, source: pafs.FileSystem, target: str) -> str:
    def read(name: str) -> bytes:
        with storage.open_file(source, f"{folder}/{name}") as stream:
            return bytes(stream.read())

    (json_name,) = set(storage.list_names(source, folder)) & {DESCRIPTION, SEMANTIC_DESCRIPTION}
    description = parse_object(read(json_name), f"{folder}/{json_name}")
    weights = read(weights_name(description, f"{folder}/{json_name}"))
    check_pair(description, hashlib.sha256(weights).hexdigest(), folder)
    write_pair(target, json_name, weights, description)
    return target


def absolute_weights(weights: str | Path | None) -> str | Path | None:
    """Make the path of initial weights absolute, because workers run in other directories."""
    return weights if weights is None or weights == "pretrained" else storage.absolute_uri(weights)


def absolute_files(config: SegmenterConfig) -> SegmenterConfig:
    """Make the paths of a segmenter's initial weights and of its saliency prior absolute."""
    prior = config.saliency_prior
    return replace(
        config,
        backbone_weights=absolute_weights(config.backbone_weights),
        saliency_prior=prior if prior in (None, AUTO) else storage.absolute_uri(str(prior)),
    )


def network_hashes(config: SegmenterConfig) -> dict[str, str]:
    """Return the hashes of the files that a segmenter starts from: ``weights`` and ``saliency_prior``, if it has any.

    Raises:
        ValueError: there is no such file.
    """
    prior = config.saliency_prior
    hashes = weights_hash(config.backbone_weights)
    return hashes if prior is None else hashes | {"saliency_prior": file_hash(prior, "saliency prior")}


def weights_hash(weights: str | Path | None) -> dict[str, str]:
    """Return the hash of initial weights as ``{"weights": hash}``, and an empty dict without weights.

    The hash of the library's weights is the word ``pretrained``.

    Raises:
        ValueError: there is no such file.
    """
    if weights is None or weights == "pretrained":
        return {"weights": str(weights)} if weights else {}
    return {"weights": file_hash(weights, "weights file")}
