"""Recursive listing of a folder, local or on an object store, in an order that is the same everywhere."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyarrow import fs as pafs

from fss.collection.sources import links
from fss.collection.sources.links import walk_local
from fss.core import storage
from fss.core.storage_errors import CHECK_ACCESS, DENIED

PHOTOGRAPHS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif"}
    | {".avif", ".heic", ".heif", ".hif"}
    | {".jp2"}  # not supported; listed so that it is reported in the quarantine
)
OTHER_FORMATS = "pictures of other formats"
_OTHERS = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"}  # camera raw
    | {".exr", ".hdr", ".jxl", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".tga"}
)
"""Suffixes of pictures that are not read; many raw files are TIFFs, whose first picture is a preview."""


@dataclass(frozen=True)
class Tree:
    """The files below a folder."""

    uris: dict[str, str]
    """URI by relative path, sorted by relative path."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Number of files left out, by reason."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Size in bytes by URI."""

    def has_folder(self, name: str) -> bool:
        """Return whether there is a file below the folder ``name``."""
        return any(path.startswith(f"{name}/") for path in self.uris)


def is_photograph(path: str) -> bool:
    """Return whether a file name has the suffix of a photograph."""
    return stem_and_suffix(path)[1] in PHOTOGRAPHS


def stem_and_suffix(path: str) -> tuple[str, str]:
    """Split ``a/b.JPG`` into ``a/b`` and ``.jpg``."""
    name = path[path.rfind("/") + 1 :]
    dot = name.rfind(".")
    if not 0 < dot < len(name) - 1:  # a hidden file, or a name that ends with a dot
        return path, ""
    suffix = name[dot:]
    return path.removesuffix(suffix), suffix.lower()


def walk(uri: str, link_roots: Sequence[str] = ()) -> Tree:
    """List the files below ``uri``. Hidden files and links that point outside the folder are left out.

    Args:
        uri: folder to list.
        link_roots: local folders that links below ``uri`` may point into, besides ``uri`` itself.

    Raises:
        ValueError: there is no such folder, or no folder of ``link_roots``, or an object store lists the files but does
            not let them be read.
    """
    storage.check_access(uri)
    fs, path = storage.resolve(uri)
    if fs.get_file_info(path).type != pafs.FileType.Directory:
        raise ValueError(f"there is no folder {uri}; give a folder of photographs, or s3://bucket/folder")
    ignored: Counter[str] = Counter()
    if isinstance(fs, pafs.LocalFileSystem):
        files = walk_local(path, [_real_folder(root) for root in link_roots], ignored)
    elif link_roots:
        raise ValueError(f"{uri} is in an object store, which has no links; leave out --source.link-roots")
    else:
        files = _walk_remote(fs, path)
    visible, sizes = {}, {}
    for relative, (file_uri, size) in sorted(files.items()):
        rooted = f"/{relative}"
        if "/." in rooted or "/__MACOSX/" in f"{rooted}/":
            ignored["hidden files"] += 1
        elif relative.endswith(".dvc") and relative.removesuffix(".dvc") not in files:
            ignored[links.DVC_FILES] += 1
        elif stem_and_suffix(relative)[1] in _OTHERS:
            ignored[OTHER_FORMATS] += 1
        else:
            visible[relative], sizes[file_uri] = file_uri, size
    if visible and storage.is_remote(uri):
        _check_readable(uri, list(visible.values()))
    return Tree(visible, ignored, sizes)


def _check_readable(uri: str, files: Sequence[str]) -> None:
    """Refuse a folder of an object store of whose first, middle and last file none may be read."""
    for file in (files[0], files[len(files) // 2], files[-1]):
        try:
            storage.read_bytes(file, limit=1)
            return
        except OSError as error:
            if DENIED not in str(error):
                return  # whoever reads the files tells it
            reason = error
    raise ValueError(f"the files of {uri} are listed but must not be read: {reason}. {CHECK_ACCESS}") from reason


def _real_folder(root: str) -> str:
    path = Path(root).expanduser()
    if not path.is_dir():
        raise ValueError(f"--source.link-roots names {root}, but there is no such folder")
    return os.path.realpath(path)


def _walk_remote(fs: pafs.FileSystem, path: str) -> dict[str, tuple[str, int]]:
    infos = fs.get_file_info(pafs.FileSelector(path, recursive=True))
    prefix = path.rstrip("/") + "/"
    return {
        info.path.removeprefix(prefix): (f"s3://{info.path}", info.size)
        for info in infos
        if info.type == pafs.FileType.File
    }
