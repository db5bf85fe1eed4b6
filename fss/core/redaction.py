"""Redaction of logged values: passwords always, and paths and file names in private runs.

A private run keeps numbers, booleans and plain words. A text is hidden if the name of its setting says that it holds a
path, if it looks like a path or file name, or if it is longer than a setting would be.
"""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "(private)"
_PASSWORD = re.compile(r"(\w[\w+.-]*://[^\s:/@]*):[^\s/@]*@")
_PLAIN = re.compile(r"[\w .:@+=%,()-]{0,80}")
_FILE = re.compile(r"\.(jpe?g|png|webp|tiff?|bmp|gif|parquet|json|db|pth?|safetensors)\b", re.IGNORECASE)
_PATH_SETTINGS = {"inputs", "outputs", "description", "error"} | {
    *("collection", "output", "workdir", "photographs", "evaluation", "checkpoint", "earlier", "student", "path"),
    *("uri", "source", "splits", "val_collection", "split_folder", "cache_folder", "fss.error"),
    *("weights", "backbone_weights", "notes"),
}


def redact_passwords(text: str) -> str:
    """Replace the password in every URL of a text: ``postgresql://me:***@host/db``."""
    return _PASSWORD.sub(r"\1:***@", text)


def redact(value: Any, name: str = "") -> Any:
    """Return plain values without paths and file names, as a private run logs them.

    Args:
        value: plain value, nested as it may be.
        name: setting that the value belongs to.
    """
    if isinstance(value, Mapping):
        return {
            redact(str(key)): redact(item, name if name in _PATH_SETTINGS else str(key)) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact(item, name) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    if name.rpartition(".")[2] in _PATH_SETTINGS or name in _PATH_SETTINGS:
        return HIDDEN
    text = str(value)
    return text if _PLAIN.fullmatch(text) and not _FILE.search(text) else HIDDEN
