"""Checkpoints of semantic networks: ``model.safetensors`` and ``semantic.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen
from safetensors.torch import save

from fss.collection import part_io
from fss.core import storage
from fss.core.config import from_dict, renamed, settings, to_dict
from fss.models.semantic.config import Auxiliary, SemanticConfig
from fss.models.semantic.network import SemanticNetwork, construct_network
from fss.models.weights.loading import build_and_load
from fss.models.weights.pair import check_pair, read_pair, weights_name, write_pair

DESCRIPTION = "semantic.json"
_OLD_NAMES = {"weights": "backbone_weights"}  # fss 0.1
_OLD_FROZEN_NORM = {True: "all", False: "none"}  # fss 0.2


@settings
class _Shape:
    """What the network is built from."""

    network: SemanticConfig
    auxiliary: Auxiliary
    class_ids: Annotated[tuple[int, ...], MinLen(1)]


def save_semantic(
    network: SemanticNetwork, directory: str | Path, *, class_ids: Sequence[int], extra: Mapping[str, Any] | None = None
) -> str:
    """Write a checkpoint and return its directory.

    Args:
        network: the network to save.
        directory: local folder or s3:// URI.
        class_ids: the collection's class id of each output channel.
        extra: JSON values to store beside the configuration, such as metrics.
    """
    uri = storage.absolute_uri(directory)
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    description = {"network": to_dict(network.config), "auxiliary": network.auxiliary, "class_ids": list(class_ids)}
    description |= dict(extra or {})
    write_pair(uri, DESCRIPTION, save(tensors), description)
    return uri


def load_semantic(directory: str | Path) -> tuple[SemanticNetwork, dict[str, Any]]:
    """Load a network on the CPU and in evaluation mode, and the content of its JSON file.

    Raises:
        ValueError: the directory holds no checkpoint, or its weights do not fit its configuration.
    """
    uri = storage.absolute_uri(directory)
    description, weights = read_pair(uri, lambda: read_semantic_description(uri))
    shape = _read_shape(description, storage.join(uri, DESCRIPTION))
    classes = len(shape.class_ids)
    network = build_and_load(
        lambda: construct_network(shape.network, classes, shape.auxiliary, pretrained=False),
        weights.content,
        what=f"the checkpoint {uri}",
    )
    check_pair(description, weights.sha256, uri)  # last, because the other errors say more
    return network.eval(), description


def read_semantic_description(uri: str) -> dict[str, Any]:
    """Return the JSON of a semantic checkpoint.

    Raises:
        ValueError: the directory holds no checkpoint.
    """
    file = storage.join(uri, DESCRIPTION)
    description = part_io.read_json(file) if part_io.exists(file) else {}
    names = (weights_name(description, file), DESCRIPTION)
    if missing := [name for name in names if not part_io.exists(storage.join(uri, name))]:
        raise ValueError(f"{uri} is no semantic checkpoint: it has no {' and no '.join(missing)}")
    return description


def semantic_weights(directory: str | Path) -> str:
    """Return the URI of the file of a semantic checkpoint with the weights.

    Raises:
        ValueError: the directory holds no checkpoint.
    """
    uri = storage.absolute_uri(directory)
    return storage.join(uri, weights_name(read_semantic_description(uri), uri))


def _read_shape(description: Mapping[str, Any], origin: str) -> _Shape:
    values = {field.name: description[field.name] for field in fields(_Shape) if field.name in description}
    if isinstance(values.get("network"), dict):
        network = values["network"] = renamed(values["network"], _OLD_NAMES)
        if isinstance(network.get("frozen_norm"), bool):
            network["frozen_norm"] = _OLD_FROZEN_NORM[network["frozen_norm"]]
    try:
        return from_dict(_Shape, values)
    except ValueError as error:
        raise ValueError(f"{origin} describes no network: {error}") from error
