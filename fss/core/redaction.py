"""What is written down about a run: never a password, and in a private run neither places nor pictures' names.

A private run keeps numbers, truth values and plain words. A text goes where its name says that it holds a place, where
it looks like one, or where it is longer than a setting would be.
"""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "(private)"
_PASSWORD = re.compile(r"(\w[\w+.-]*://[^\s:/@]*):[^\s/@]*@")
_PLAIN = re.compile(r"[\w .:@+=%,()-]{0,80}")
_FILE = re.compile(r"\.(jpe?g|png|webp|tiff?|bmp|gif|parquet|json|db|pth?|safetensors)\b", re.IGNORECASE)
_PLACES = {"inputs", "outputs", "description", "error"} | {
    *("collection", "output", "workdir", "photographs", "evaluation", "checkpoint", "earlier", "student", "path"),
    *("uri", "source", "splits", "val_collection", "split_folder", "cache_folder", "fss.error"),
    *("weights", "backbone_weights"),
}


def redact_passwords(text: str) -> str:
    """Replace the password of every address in a text: ``postgresql://me:***@host/db``."""
    return _PASSWORD.sub(r"\1:***@", text)


def redact(value: Any, name: str = "") -> Any:
    """Return plain values without places and pictures' names, for a private run; ``name`` is the value's setting."""
    if isinstance(value, Mapping):
        return {redact(str(key)): redact(item, name if name in _PLACES else str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, name) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    if name.rpartition(".")[2] in _PLACES or name in _PLACES:
        return HIDDEN
    text = str(value)
    return text if _PLAIN.fullmatch(text) and not _FILE.search(text) else HIDDEN
