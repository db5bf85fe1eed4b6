"""Recursive listing of a folder, local or on an object store, in an order that is the same everywhere."""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pyarrow import fs as pafs

from fss.core import storage

PHOTOGRAPHS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif"}
    | {".avif", ".heic", ".heif", ".hif"}
    | {".jp2"}  # not supported; listed so that it is reported in the quarantine
)


@dataclass(frozen=True)
class Tree:
    """The files below a folder."""

    uris: dict[str, str]
    """URI by relative path, sorted by relative path."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Number of files left out, by reason."""

    def has_folder(self, name: str) -> bool:
        """Return whether there is a file below the folder ``name``."""
        return any(path.startswith(f"{name}/") for path in self.uris)


def is_photograph(path: str) -> bool:
    """Return whether a file name has the suffix of a photograph."""
    return stem_and_suffix(path)[1] in PHOTOGRAPHS


def stem_and_suffix(path: str) -> tuple[str, str]:
    """Split ``a/b.JPG`` into ``a/b`` and ``.jpg``."""
    suffix = PurePosixPath(path).suffix
    return path.removesuffix(suffix), suffix.lower()


def walk(uri: str) -> Tree:
    """List the files below ``uri``. Hidden files and links that point outside the folder are left out.

    Raises:
        ValueError: there is no such folder.
    """
    storage.check_access(uri)
    fs, path = storage.resolve(uri)
    if fs.get_file_info(path).type != pafs.FileType.Directory:
        raise ValueError(f"there is no folder {uri}; give a folder of photographs, or s3://bucket/folder")
    ignored: Counter[str] = Counter()
    uris = _walk_local(Path(path), ignored) if isinstance(fs, pafs.LocalFileSystem) else _walk_remote(fs, path)
    visible = {}
    for relative, file_uri in sorted(uris.items()):
        if any(name.startswith(".") or name == "__MACOSX" for name in relative.split("/")):
            ignored["hidden files"] += 1
        else:
            visible[relative] = file_uri
    return Tree(visible, ignored)


def _walk_local(root: Path, ignored: Counter[str]) -> dict[str, str]:
    uris = {}
    real_root = root.resolve()
    for folder, folders, names in os.walk(root, followlinks=False):
        ignored["linked folders"] += sum(Path(folder, name).is_symlink() for name in folders)
        for name in names:
            path = Path(folder, name)
            if path.is_symlink() and not path.resolve().is_relative_to(real_root):
                ignored["links out of the folder"] += 1
            elif not _is_file(path):
                ignored["no regular files"] += 1  # reading a pipe may never end
            else:
                uris[path.relative_to(root).as_posix()] = str(path)
    return uris


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _walk_remote(fs: pafs.FileSystem, path: str) -> dict[str, str]:
    infos = fs.get_file_info(pafs.FileSelector(path, recursive=True))
    prefix = path.rstrip("/") + "/"
    return {info.path.removeprefix(prefix): f"s3://{info.path}" for info in infos if info.type == pafs.FileType.File}
