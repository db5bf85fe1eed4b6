"""Who owns an output folder: the settings that fill it, so that other settings never mix with them."""

from typing import Any

from pyarrow import fs as pafs

from fss.collection.part_io import exists, read_json, write_json
from fss.core import storage

RECORD = "job.json"


def claim(home: str, key: str, settings: dict[str, Any], *, what: str) -> None:
    """Write down that ``home`` belongs to the job ``key``, or check that it does.

    Raises:
        ValueError: it belongs to a job with other settings, with the first differences.
    """
    record = storage.join(home, RECORD)
    if not exists(record):
        write_json(record, {"key": key, "settings": settings})
        return
    found = read_json(record)
    if found["key"] != key:
        changed = _differences(found["settings"], settings) or ["the data"]
        raise ValueError(
            f"there is {what} with other settings ({', '.join(changed[:5])}); go on with its settings, "
            "give --overwrite to start again, or another name"
        )


def remove(*folders: str) -> None:
    """Delete output folders and everything in them."""
    for folder in folders:
        filesystem, path = storage.resolve(folder)
        if filesystem.get_file_info(path).type == pafs.FileType.Directory:
            filesystem.delete_dir(path)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    changed = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            changed.append(f"{prefix}{name} was {a}, is {b}")
    return changed
