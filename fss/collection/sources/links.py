"""Links in a local folder: data sets of DVC, git-annex or the cache of a hub keep their files elsewhere.

A link is followed if its target lies in the folder itself or in a folder that the user names. The target is the end of
a chain of links, so a link cannot lead out through another one.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

OUTSIDE = "links out of the folder"
FOLDERS = "linked folders"
BROKEN = "links without a target"
UNREADABLE = "folders that cannot be read"
DVC_FILES = "DVC files without their data"


def walk_local(root: str, link_roots: Sequence[str], ignored: Counter[str]) -> dict[str, tuple[str, int]]:
    """Return path and size in bytes of the files below a local folder, by their paths relative to it.

    Args:
        root: absolute path of the folder to list.
        link_roots: real paths of folders that links may point into. Only these make linked folders followed, since a
            link within the folder repeats what is listed already.
        ignored: number of files left out by reason, which is added to.
    """
    allowed, prefix = [os.path.realpath(root), *link_roots], root.rstrip("/") + "/"
    paths = {}
    for file in _files(root, (), link_roots, ignored):
        linked = file.is_symlink()
        if linked and not Path(file).exists():
            ignored[BROKEN] += 1
        elif linked and not _inside(os.path.realpath(file), allowed):
            ignored[OUTSIDE] += 1
        elif (size := _file_size(file)) is None:
            ignored["no regular files"] += 1  # reading a pipe may never end
        else:
            paths[file.path.removeprefix(prefix)] = file.path, size
    return paths


def link_notes(ignored: Mapping[str, int], uri: str) -> list[str]:
    """Return what to do about the links, folders and files of DVC that a listing has left out."""
    notes = []
    if count := ignored.get(OUTSIDE, 0) + ignored.get(FOLDERS, 0):
        notes.append(
            f"{count} links of {uri} were left out; give --source.link-roots FOLDER to the ingest to follow those that "
            "point into FOLDER, such as the cache of DVC or of a hub"
        )
    if count := ignored.get(BROKEN, 0):
        notes.append(
            f"{count} links of {uri} have no target; fetch the files first (git annex get, dvc pull, or the hub's "
            "download)"
        )
    if count := ignored.get(UNREADABLE, 0):
        notes.append(
            f"{count} folders below {uri} cannot be read, so their files were left out; change their permissions"
        )
    if count := ignored.get(DVC_FILES, 0):
        notes.append(f"{count} files of DVC in {uri} stand for data that are not there; fetch them first (dvc pull)")
    return notes


def _files(
    top: str, above: tuple[str, ...], link_roots: Sequence[str], ignored: Counter[str]
) -> Iterator[os.DirEntry[str]]:
    """Yield everything below a folder that is no folder; ``above`` are the targets of the links that led to it.

    A link to a folder that contains the link is not followed. A folder that cannot be read is left out.
    """
    try:
        with os.scandir(top) as entries:
            listed = list(entries)
    except OSError:
        ignored[UNREADABLE] += 1
        return
    for entry in listed:
        if not _is_folder(entry):
            yield entry
        elif not entry.is_symlink():
            yield from _files(entry.path, above, link_roots, ignored)
        else:
            target = os.path.realpath(entry)
            if _inside(target, link_roots) and target not in above and not _inside(os.path.realpath(top), [target]):
                yield from _files(entry.path, (*above, target), link_roots, ignored)
            else:
                ignored[FOLDERS] += 1


def _inside(path: str, roots: Sequence[str]) -> bool:
    return any(Path(path).is_relative_to(root) for root in roots)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _file_size(entry: os.DirEntry[str]) -> int | None:
    """Return the size of a regular file in bytes; None for anything else."""
    try:
        status = entry.stat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
