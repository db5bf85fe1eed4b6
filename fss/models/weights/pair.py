"""A folder with weights and the JSON that describes them, which change as one.

The JSON names the file of its weights. New weights get a name of their own, then the JSON is replaced, and the old
weights go last. So a reader never sees weights beside the JSON of others, and a killed writer leaves the old model or
the new one.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from fss.core import storage
from fss.core.hashing import file_sha256
from fss.core.json_values import parse_object
from fss.models.weights.reading import open_weights

WEIGHTS = "model.safetensors"
"""File of the weights, unless the JSON names another one because the folder held a model before."""
WEIGHTS_KEY = "weights_file"
"""Key of the name of the weights' file in the JSON."""
_NAME = re.compile(r"model(-[0-9a-f]{16})?\.safetensors")
_TRIES = 20


def weights_name(description: Mapping[str, Any], origin: str) -> str:
    """Return the name of the file of the weights.

    Args:
        description: the JSON of the folder.
        origin: its path, for the message.

    Raises:
        ValueError: the JSON names a file that cannot be one of weights.
    """
    name = description.get(WEIGHTS_KEY, WEIGHTS)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{origin} is damaged: {WEIGHTS_KEY} is {name!r:.80}, expected a name such as {WEIGHTS}")
    return name


def write_pair(folder: str, json_name: str, weights: bytes, description: Mapping[str, Any]) -> None:
    """Write weights and their JSON into a folder, a local path or s3:// URI, in place of those that are there."""
    uri = storage.join(folder, json_name)
    before = _name_before(uri)
    name, digest = before or WEIGHTS, hashlib.sha256(weights).hexdigest()
    if before is None or _sha256(storage.join(folder, before)) != digest:
        name = WEIGHTS if before is None else f"model-{digest[:16]}.safetensors"
        storage.write_atomically(*storage.resolve(storage.join(folder, name)), weights)
    described = {**description, WEIGHTS_KEY: name}
    if name == WEIGHTS:
        del described[WEIGHTS_KEY]
    storage.write_atomically(*storage.resolve(uri), (json.dumps(described, indent=2) + "\n").encode())
    filesystem, path = storage.resolve(folder)
    for other in storage.list_names(filesystem, path):
        if _NAME.fullmatch(other) and other != name:
            with suppress(FileNotFoundError):
                filesystem.delete_file(f"{path}/{other}")


def read_pair(folder: str, read_description: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], Any]:
    """Return the JSON of a folder and the content of the weights that it describes.

    Args:
        folder: local path or s3:// URI.
        read_description: reads the JSON; it is called again where a writer replaces the model meanwhile.

    Raises:
        ValueError: there are no weights, or they are damaged.
    """
    description = read_description()
    for _ in range(_TRIES):
        try:
            content = open_weights(
                storage.join(folder, weights_name(description, folder)), safetensors_only=True
            ).content
        except (ValueError, FileNotFoundError):
            if (again := read_description()) == description:
                raise
        else:
            if (again := read_description()) == description:
                return description, content
        description = again
    raise ValueError(f"{folder} was replaced during each of {_TRIES} readings; wait until its job has ended")


def _name_before(uri: str) -> str | None:
    """Return the name of the weights that a folder's JSON describes; None without a usable JSON."""
    with suppress(FileNotFoundError, ValueError):
        return weights_name(parse_object(storage.read_bytes(uri), uri), uri)
    return None


def _sha256(uri: str) -> str | None:
    with suppress(FileNotFoundError):
        return file_sha256(uri)
    return None
