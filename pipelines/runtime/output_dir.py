"""Ownership of an output folder: a file holds the settings of its job, so that jobs never mix their outputs."""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from fss.collection.mask_set_files import metadata_uri
from fss.collection.part_io import check_name, exists, read_json, write_json
from fss.core import storage
from fss.core.lease import LOCK, hold

METADATA_NAME = "job.json"
SUMMARY_NAME = "summary.json"
_RAY_COPY = "/runtime_resources/working_dir_files/"  # below the session folder of a node, Ray 2.60


def check_output_dir(output_dir: str) -> None:
    """Check that a local output folder can be created and written; object stores are not checked.

    Raises:
        ValueError: a file has the folder's name or that of a parent, there is no permission to write, or the folder
            disappears with a submitted job, or the disk is mounted read-only.
    """
    if storage.is_remote(output_dir):
        return
    check_not_temporary(output_dir, "an output folder")
    storage.check_writable(output_dir)


def check_owner(output_dir: str, job: str, *, claimed: bool, emptied: bool) -> None:
    """Check that an output folder has no files that the job would replace or delete and that are not its own.

    Args:
        output_dir: the folder.
        job: title of the job.
        claimed: whether :func:`claim` marks the folders of the job.
        emptied: whether the job deletes what is in the folder.

    Raises:
        ValueError: it is a collection, a model or the output of another job; or it has files without a sign of the job,
            and would be emptied.
    """
    names = [name for name in storage.list_names(*storage.resolve(output_dir)) if name != LOCK]
    kinds = {"collection.json": "a collection", "segmenter.json": "a model"}
    kinds |= {} if claimed else {METADATA_NAME: "the output of another job"}
    what = next((kind for name, kind in kinds.items() if name in names), None)
    if what is None and not claimed and (title := _title_in(output_dir)) not in (None, job):
        what = f"the output of the job {title}"
    if what is not None:
        raise ValueError(f"{output_dir} is {what}, whose files {job} would replace; give another folder")
    signs = {METADATA_NAME} if claimed else {SUMMARY_NAME, "tracking"}
    if emptied and names and not signs & set(names):
        listed = f"{', '.join(names[:3])}{', ...' if names[3:] else ''}"
        raise ValueError(
            f"--overwrite would delete {output_dir}, which has files ({listed}) and none that says that {job} made "
            "them; give another folder, or delete them yourself"
        )


def _title_in(output_dir: str) -> str | None:
    """Return the title of the job whose result is in a folder; None without one, and for a damaged one."""
    file = storage.join(output_dir, SUMMARY_NAME)
    try:
        return str(read_json(file).get("job")) if exists(file) else None
    except ValueError:
        return None


def check_not_temporary(path: str | Path, what: str) -> None:
    """Check that a local path is not in the copy of the working directory that Ray makes for a submitted job.

    Ray deletes the copy after the job, and other machines have copies of their own.

    Raises:
        ValueError: the path is in such a copy.
    """
    folder = Path(storage.absolute_uri(path))
    if _RAY_COPY in folder.as_posix():
        raise ValueError(
            f"{what} must outlast the job, but {path} is in Ray's temporary copy of the working directory; give "
            "--output and --collection as s3://bucket/folder or as absolute paths on a disk that all nodes share, and "
            "--tracking.uri (or MLFLOW_TRACKING_URI) as a server or as sqlite:////absolute/path/mlflow.db"
        )


def claim(output_dir: str, key: str, settings: dict[str, Any], *, what: str, contents: str | None = None) -> None:
    """Mark ``output_dir`` as the folder of the job ``key``, or check that it is.

    Args:
        output_dir: the folder.
        key: hash of everything that determines the result.
        settings: the settings of the job, for the message.
        what: the job of the folder, for the message.
        contents: hash of the files that the job reads.

    Raises:
        ValueError: the folder belongs to a job with other settings, whose first differences the message has, or to one
            that began with other data.
    """
    file = storage.join(output_dir, METADATA_NAME)
    if not exists(file):
        write_json(file, {"key": key, "settings": settings} | ({"contents": contents} if contents else {}))
        return
    owner = read_record(
        file,
        {"key": str, "settings": dict},
        "It says to which settings the files beside it belong: delete it if they are those of this command, which then "
        "continues, or give --overwrite to start again",
    )
    if owner["key"] != key:
        changes = _differences(owner["settings"], settings) or ["the data"]
        raise ValueError(
            f"there is {what} with other settings ({', '.join(changes[:5])}). Repeat its settings to continue it, give "
            "--overwrite to start again, or choose another --name"
        )
    check_contents(owner.get("contents"), contents, what)


def read_record(file: str, kinds: Mapping[str, type], advice: str) -> dict[str, Any]:
    """Read a JSON object that a job wrote into its output folder.

    Args:
        file: URI of the file.
        kinds: types of the values that it must have, by their names.
        advice: what to do with a damaged file, for the message.

    Raises:
        OSError: the file is missing or unreadable.
        ValueError: the file is damaged.
    """
    try:
        record = read_json(file)
    except ValueError as error:
        raise ValueError(f"{error}. {advice}") from error
    if wrong := [name for name, kind in kinds.items() if not isinstance(record.get(name), kind)]:
        raise ValueError(f"{file} is damaged: it has no valid {' and '.join(wrong)}. {advice}")
    return record


def check_contents(before: str | None, now: str | None, what: str) -> None:
    """Check that the files that a job reads are those that it began with.

    A job of an earlier version has no record of them; it continues, and a line says so.

    Args:
        before: hash of the files that the job began with.
        now: hash of the files at present; None if the job has none.
        what: the job, for the message.

    Raises:
        ValueError: the files have changed.
    """
    if before is None and now is not None:
        text = (
            f"{what} began with a version that recorded no contents of its data; whether they have changed is not known"
        )
        print(text, file=sys.stderr, flush=True)
    elif now is not None and before != now:
        raise ValueError(
            f"there is {what} that began with other data: files of images or masks have been written anew since "
            f"(contents {before}, now {now}). Bring them back (fss inspect COLLECTION --verify names damaged parts), "
            "give --overwrite to start again with the data as they are, or choose another --name"
        )


def hold_mask_set(collection: str, name: str, *, overwrite: bool) -> AbstractContextManager[None]:
    """Return a context in which no other job writes a mask set that is deleted first; without ``overwrite``, none.

    Raises:
        ValueError: the name is invalid, or another job writes the mask set.
    """
    check_name(name, "the mask set")
    return (
        hold(metadata_uri(collection, name), f"the mask set {name!r} of {collection}") if overwrite else nullcontext()
    )


def remove(*folders: str) -> None:
    """Delete output folders and everything in them, except the lock file of a folder that is held."""
    for folder in folders:
        filesystem, path = storage.resolve(folder)
        if filesystem.get_file_info(path).type != pafs.FileType.Directory:
            continue
        if not exists(storage.join(folder, LOCK)):
            filesystem.delete_dir(path)
            continue
        for info in filesystem.get_file_info(pafs.FileSelector(path)):
            if info.type == pafs.FileType.Directory:
                filesystem.delete_dir(info.path)
            elif info.base_name != LOCK:
                filesystem.delete_file(info.path)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    changed = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            changed.append(f"{prefix}{name} was {a}, is {b}")
    return changed
