"""A folder with weights and the JSON that describes them, which change as one.

The JSON names the file of its weights. New weights get a name of their own, then the JSON is replaced, and the old
weights go last. So a reader never sees weights beside the JSON of others, and a killed writer leaves the old model or
the new one.

The JSON also holds the SHA-256 of the weights and a checksum of itself, so that damage is noticed. fss 0.2 wrote
neither.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from fss.core import storage
from fss.core.config import config_hash
from fss.core.hashing import file_sha256
from fss.core.json_values import parse_object
from fss.models.weights.reading import WeightsFile, open_weights

WEIGHTS = "model.safetensors"
"""File of the weights, unless the JSON names another one because the folder held a model before."""
WEIGHTS_KEY = "weights_file"
"""Key of the name of the weights' file in the JSON."""
WEIGHTS_SHA256 = "weights_sha256"
"""Key of the hash of the weights' file in the JSON."""
CHECKSUM = "checksum"
"""Key of the checksum of the other values in the JSON."""
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
    described = {key: value for key, value in description.items() if key != WEIGHTS_KEY}
    if name != WEIGHTS:
        described[WEIGHTS_KEY] = name
    storage.write_atomically(*storage.resolve(uri), encode_description(described, digest))
    filesystem, path = storage.resolve(folder)
    for other in storage.list_names(filesystem, path):
        if _NAME.fullmatch(other) and other != name:
            with suppress(FileNotFoundError):
                filesystem.delete_file(f"{path}/{other}")


def encode_description(description: Mapping[str, Any], weights_sha256: str | None) -> bytes:
    """Return the bytes of the JSON beside weights, with the hash of the weights and a checksum of the rest.

    Args:
        description: its values; those of an earlier hash and checksum are replaced.
        weights_sha256: SHA-256 of the file of the weights; None if it is not known.
    """
    values = {key: value for key, value in description.items() if key not in (WEIGHTS_SHA256, CHECKSUM)}
    if weights_sha256 is not None:
        values[WEIGHTS_SHA256] = weights_sha256
    plain = json.loads(json.dumps(values))  # a checksum of what a reader will see: no tuples, keys as text
    return (json.dumps({**plain, CHECKSUM: config_hash(plain)}, indent=2) + "\n").encode()


def check_pair(description: Mapping[str, Any], weights_sha256: str, origin: str) -> None:
    """Compare a JSON and the weights that it describes with their hashes, if it holds them.

    Args:
        description: the values of the JSON.
        weights_sha256: SHA-256 of the file of the weights.
        origin: path of the folder, for the message.

    Raises:
        ValueError: the JSON was edited, or one of both is damaged.
    """
    if (written := description.get(WEIGHTS_SHA256)) not in (None, weights_sha256):
        raise ValueError(
            f"the weights in {origin} are not those that were written (SHA-256 {weights_sha256[:16]!r}, expected "
            f"{written!a:.18}): they are damaged or of another model. Copy the model again, or train it again"
        )
    check_description(description, origin)


def check_description(description: Mapping[str, Any], origin: str) -> None:
    """Compare a JSON with its checksum, if it holds one.

    Raises:
        ValueError: it was edited or is damaged.
    """
    values = {key: value for key, value in description.items() if key != CHECKSUM}
    if (written := description.get(CHECKSUM)) is not None and written != config_hash(values):
        raise ValueError(
            f"the JSON of the model in {origin} is not as it was written: it was edited, or it is damaged. Copy the "
            f"model again; if you edited the JSON on purpose, delete its line {CHECKSUM!r}"
        )


def read_pair(folder: str, read_description: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], WeightsFile]:
    """Return the JSON of a folder and the weights that it describes; :func:`check_pair` compares them.

    Args:
        folder: local path or s3:// URI.
        read_description: reads the JSON; it is called again where a writer replaces the model meanwhile.

    Raises:
        ValueError: there are no weights, or they are damaged.
    """
    description = read_description()
    for _ in range(_TRIES):
        try:
            weights = open_weights(storage.join(folder, weights_name(description, folder)), safetensors_only=True)
        except (ValueError, FileNotFoundError):
            if (again := read_description()) == description:
                raise
        else:
            if (again := read_description()) == description:
                return description, weights
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
