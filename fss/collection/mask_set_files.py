"""Where the files of a mask set lie.

    masks/<set>/part-00000.parquet              the masks and nothing else, so that any Parquet reader opens the folder
    metadata/<set>/set.json                     configuration hash and provenance
    metadata/<set>/acceptances/<name>.parquet   masks of the set that a trainer may use
    metadata/<set>/manifest/, fragments/        small columns of the masks (see manifest)
    metadata/<set>/features/, neighbours/       tables of a relabelling, one for each part
    metadata/<set>/candidates/, supports/       tables of its candidates and its bank, each for several parts
    metadata/<set>/report-<name>.*              reports of jobs

Format 1 kept all of them in ``masks/<set>/``, as ``_set.json``, ``acceptance-<name>.json`` and
``features-part-00000.parquet``. Readers find them there, and a job that resumes such a set moves them.
"""

from pathlib import Path, PurePosixPath

from pyarrow import fs as pafs

from fss.collection import part_io
from fss.collection.acceptance_file import acceptance_table, open_acceptance_file, write_acceptance_file
from fss.core import storage
from fss.core.retry import retry_transient

SET_NAME = "set.json"
OLD_SET_NAME = "_set.json"
TABLES = ("features", "neighbours")
"""Tables of a relabelling beside the masks."""


def parts_uri(collection: str, name: str) -> str:
    """Return the URI of the folder of a mask set's parts."""
    return storage.join(collection, "masks", name)


def metadata_uri(collection: str, name: str) -> str:
    """Return the URI of the folder of everything else that belongs to a mask set."""
    return storage.join(collection, "metadata", name)


def set_file(collection: str, name: str) -> str | None:
    """Return the URI of the file that makes a mask set exist, in either format; None if there is no set."""
    for uri in (
        storage.join(metadata_uri(collection, name), SET_NAME),
        storage.join(parts_uri(collection, name), OLD_SET_NAME),
    ):
        if part_io.exists(uri):
            return uri
    return None


def set_names(collection: str) -> list[str]:
    """Return the names of the mask sets, sorted."""
    folders = [storage.resolve(storage.join(collection, folder)) for folder in ("masks", "metadata")]
    names = {name for fs, path in folders for name in storage.list_names(fs, path) if part_io.is_name(name)}
    return sorted(name for name in names if set_file(collection, name))


@retry_transient
def list_files(uri: str) -> list[str]:
    """Return the sorted names of all files in a folder, relative to it; empty if there is no folder."""
    fs, path = storage.resolve(uri)
    infos = fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    return sorted(
        str(PurePosixPath(info.path).relative_to(PurePosixPath(path)))
        for info in infos
        if info.type == pafs.FileType.File
    )


def is_derived(name: str) -> bool:
    """Return whether a file of a mask set is made from its masks, so that it is deleted with them."""
    return name.endswith((".parquet", ".arrow")) or name.startswith(("acceptance-", "report-"))


def delete_files(uri: str, names: list[str]) -> None:
    """Delete files of a folder, and the folders that become empty on a local disk."""
    for name in names:
        part_io.delete(storage.join(uri, name))
    fs, path = storage.resolve(uri)
    if isinstance(fs, pafs.LocalFileSystem) and Path(path).is_dir():
        folders = sorted((each for each in Path(path).rglob("*") if each.is_dir()), reverse=True)
        for folder in (*folders, Path(path)):
            if not any(folder.iterdir()):
                folder.rmdir()


def move_metadata(collection: str, name: str) -> bool:
    """Move the files of a mask set of format 1 to where they belong, and return whether there were any.

    ``_set.json`` goes last, so an interrupted move can be repeated, and readers find every file in between.
    """
    old, new = parts_uri(collection, name), metadata_uri(collection, name)
    files = [file for file in list_files(old) if not _is_part(file) and file != OLD_SET_NAME]
    old_set = storage.join(old, OLD_SET_NAME)
    if not files and not part_io.exists(old_set):
        return False
    for file in files:
        _move(storage.join(old, file), storage.join(new, _new_name(file)))
    if part_io.exists(old_set):
        _move(old_set, storage.join(new, SET_NAME))
    return True


def _is_part(name: str) -> bool:
    return name.endswith(".parquet") and name.startswith("part-")


def _new_name(name: str) -> str:
    for kind in TABLES:
        if name.startswith(f"{kind}-part-"):
            return f"{kind}/{name.removeprefix(f'{kind}-')}"
    if name.startswith("acceptance-") and name.endswith(".json"):
        return f"acceptances/{name.removeprefix('acceptance-').removesuffix('.json')}.parquet"
    return name


def _move(source: str, target: str) -> None:
    """Move a file, and convert an acceptance; what is at the target already is newer and stays."""
    if not part_io.exists(target):
        if target.endswith(".parquet") and source.endswith(".json"):
            acceptance = open_acceptance_file(source, "")
            write_acceptance_file(target, acceptance.rule, acceptance_table(acceptance.accepted), hash=acceptance.hash)
        else:
            storage.write_atomically(*storage.resolve(target), storage.read_bytes(source))
    part_io.delete(source)
