"""Where annotation files in COCO's form lie, and the photographs that belong to them.

{train2014,val2014,train2017,val2017}/     annotations/instances_<subset>.json     the standard downloads
<subset>/                                  annotations/<subset>/*.png              rendered categories
images/[<subset>/]                         annotations/instances_<subset>.json     CVAT, MMDetection and others
{train,valid,test}/                        <subset>/_annotations.coco.json         Roboflow
anywhere                                   one other JSON file in COCO's form      Label Studio, SuperAnnotate, ...
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from pyarrow import fs as pafs

from fss.collection.config import SourceConfig
from fss.collection.sources.names import normalized
from fss.collection.sources.walk import Tree, is_photograph, stem_and_suffix
from fss.core import storage
from fss.core.printable import printable

SUBSETS = ("train2014", "val2014")
EXPECTED = {"train2014": 82_783, "val2014": 40_504, "train2017": 118_287, "val2017": 5_000}
"""Photographs of the standard downloads."""
PAGE = "https://cocodataset.org/#download"
_INSTANCES = re.compile(r"instances_(.+)\.json", re.IGNORECASE)
_ROBOFLOW = "_annotations.coco.json"
_HEAD = 65536  # bytes that show the first keys of a file
_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_MOST = 100  # JSON files to look into
_LISTED = 8  # names in a message
_NO_PHOTOGRAPHS = frozenset({"annotations", "annotation", "instances", "labels", "masks"})


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Photographs and the file, or the folder, of their annotations."""

    name: str
    """Name for ``--source.subset``."""
    file: str | None = None
    """URI of the annotation file; None for category PNGs."""
    masks: str | None = None
    """Folder of category PNGs; None for an annotation file."""
    folder: str | None = None
    """Folder of the photographs; None if only the names in the file tell."""


def find_subsets(tree: Tree, config: SourceConfig) -> tuple[list[Subset], list[str]]:
    """Return the subsets to read, and notes on those that are left out.

    Raises:
        ValueError: there are none, there are several that do not belong together, or the settings name another one.
    """
    subset = config.subset
    finder = _Finder(tree, config)
    if config.annotations is not None:
        if subset not in ("", "all"):
            raise ValueError(f"--source.annotations chooses a single file; leave out --source.subset {subset}")
        return [finder.subset(*_chosen_file(tree, config))], []
    available = finder.standard() or finder.roboflow() or finder.others()
    if subset in available:
        return [available[subset]], []
    if subset == "all" and (not available or any(name in available for name in SUBSETS)):
        return [available.get(name) or refuse_missing(tree, config, name) for name in SUBSETS], []
    if subset in EXPECTED:
        refuse_missing(tree, config, subset)
    if not available:
        raise ValueError(
            f"{config.path} has no annotation file in COCO's form, such as annotations/instances_val2017.json; give "
            f"--source.annotations FILE, or get COCO's annotations from {PAGE}"
        )
    if subset not in ("", "all"):
        raise ValueError(f"{config.path} has the subsets {_some(available)}; got {subset!r}")
    if len(available) > 1 and any(name.lower().endswith(".json") for name in available):
        raise ValueError(
            f"{config.path} has several annotation files: {_some(available)}; choose one with --source.annotations FILE"
        )
    chosen = {name: available[name] for name in SUBSETS if name in available} or available
    chosen = {name: one for name, one in chosen.items() if one.folder is not None} or chosen
    rest = [name for name in available if name not in chosen]
    note = f"the subsets {_some(rest)} are left out; choose them with --source.subset NAME"
    return list(chosen.values()), [note] * bool(rest)


def refuse_missing(tree: Tree, config: SourceConfig, name: str) -> NoReturn:
    """Say what a subset of the standard download lacks.

    Raises:
        ValueError: always.
    """
    if not any(path.startswith(f"{name}/") and is_photograph(path) for path in tree.uris):
        raise ValueError(f"{config.path} has no photographs {name}/*.jpg: get {name}.zip from {PAGE}")
    raise ValueError(
        f"{config.path} has neither annotations/instances_{name}.json nor the folder annotations/{name}/ of category "
        f"PNGs: get annotations_trainval{name[-4:]}.zip from {PAGE}"
    )


class _Finder:
    """Looks for annotation files and photographs in a folder."""

    def __init__(self, tree: Tree, config: SourceConfig):
        self._tree = tree
        self._config = config
        self._photographs = [path for path in tree.uris if is_photograph(path)]
        self._folders = {parent for path in self._photographs for parent in _parents(path)}

    def subset(self, path: str, uri: str) -> Subset:
        """Return the subset of an annotation file, by its path relative to the source."""
        return Subset(name=path, file=uri, folder=self._folder(_short_name(path), path))

    def standard(self) -> dict[str, Subset]:
        """Return the subsets with a file instances_<subset>.json, or with a folder of category PNGs."""
        tree = self._tree
        files = {name: path for path in reversed(tree.uris) if (name := _instances(path)) is not None}
        parts = [path.split("/") for path in tree.uris if path.startswith("annotations/") and path.endswith(".png")]
        rendered = {names[1] for names in parts if len(names) == 3} & self._folders
        return {
            name: Subset(
                name=name,
                file=None if name in rendered else tree.uris[files[name]],
                masks=f"annotations/{name}" if name in rendered else None,
                folder=self._folder(name, files.get(name, "")),
            )
            for name in sorted(files.keys() | rendered)
        }

    def roboflow(self) -> dict[str, Subset]:
        """Return the folders that have an annotation file beside their photographs."""
        files = {_parent(path) or ".": path for path in self._tree.uris if path.rpartition("/")[2] == _ROBOFLOW}
        return {
            name: Subset(name=name, file=self._tree.uris[path], folder=self._folder(name, path))
            for name, path in files.items()
        }

    def others(self) -> dict[str, Subset]:
        """Return the other JSON files in COCO's form by their path. Files beside a photograph of their name are none.

        Raises:
            ValueError: there are too many JSON files to look into.
        """
        tree = self._tree
        owners = {name for path in self._photographs for name in (path, stem_and_suffix(path)[0])}
        files = [path for path in _json_files(tree) if stem_and_suffix(path)[0] not in owners]
        if len(files) > _MOST:
            raise ValueError(
                f"{self._config.path} has {len(files)} JSON files, such as {_some(files)}; choose the annotation file "
                "with --source.annotations FILE"
            )
        candidates = [path for path in files if _looks_like_coco(tree.uris[path])]
        if not candidates and len(files) == 1:
            candidates = files  # the reader says what it is
        return {path: self.subset(path, tree.uris[path]) for path in candidates}

    def _folder(self, name: str, path: str) -> str | None:
        """Return the folder of a subset's photographs by its name, or beside its annotation file."""
        if self._config.images is not None:
            return self._chosen_folder(self._config.images)
        same = [folder for folder in sorted(self._folders) if folder.rpartition("/")[2] == name]
        for folder in (name, f"images/{name}", *same, _parent(path)):
            if folder in self._folders and folder.rpartition("/")[2] not in _NO_PHOTOGRAPHS:
                return folder
        return None

    def _chosen_folder(self, name: str) -> str | None:
        """Return the folder that the settings name; None for the whole source."""
        folder = normalized(name).strip("/")
        if folder in ("", "."):
            return None
        if folder not in self._folders:
            raise ValueError(
                f"--source.images is {name!r}, where no photographs are; the folders are {_some(sorted(self._folders))}"
            )
        return folder


def _chosen_file(tree: Tree, config: SourceConfig) -> tuple[str, str]:
    """Return the path of the annotation file that the settings name, relative to the source where it is in it, and URI.

    Raises:
        ValueError: there is no such file.
    """
    name = config.annotations or ""
    relative = normalized(name)
    if relative in tree.uris:
        return relative, tree.uris[relative]
    uri = storage.absolute_uri(name)
    inside = next((path for path, each in tree.uris.items() if each == uri), None)
    if inside is not None:
        return inside, uri
    fs, path = storage.resolve(uri)
    if fs.get_file_info(path).type != pafs.FileType.File:
        raise ValueError(
            f"there is no annotation file {name}, neither in {config.path} nor here; the JSON files of the source are "
            f"{_some(_json_files(tree)) or 'none'}"
        )
    return uri, uri


def _instances(path: str) -> str | None:
    match = _INSTANCES.fullmatch(path.rpartition("/")[2])
    return match and match[1]


def _short_name(path: str) -> str:
    return _instances(path) or stem_and_suffix(path)[0].rpartition("/")[2]


def _json_files(tree: Tree) -> list[str]:
    return [path for path in tree.uris if path.lower().endswith(".json")]


def _looks_like_coco(uri: str) -> bool:
    """Return whether a file begins like an annotation file."""
    head = storage.read_bytes(uri, limit=_HEAD).replace(b"\0", b"")  # of two bytes per character, if it is UTF-16
    return b"{" in head[:8] and any(key in head for key in _KEYS)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _parents(path: str) -> list[str]:
    """Return all folders of a path, the deepest one last."""
    names = path.split("/")[:-1]
    return ["/".join(names[: depth + 1]) for depth in range(len(names))]


def _some(names: Iterable[str]) -> str:
    listed = [printable(name) for name in names]
    return ", ".join(listed[:_LISTED]) + (f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else "")
