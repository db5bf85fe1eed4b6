"""Image lists of the published protocols: the images of every class, in order.

Published lists are read in the layout of HSNet's code (Min et al., "Hypercorrelation Squeeze for Few-Shot
Segmentation", ICCV 2021):

    pascal/val/fold<f>.txt    lines <image>__<class 1 to 20>
    coco/val/fold<f>.pkl      dictionary: class 0 to 79 -> image names
    fss/test.txt              class names

and the same with ``trn`` for training: fold f of PASCAL trains on the files of the three other folds, fold f of COCO on
its own file. Without these files, lists are derived from the masks; their entries differ.
"""

import io
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from fss.core import storage
from fss.episodes.folds import FOLDS, Fold

Origin = Literal["published", "given", "derived"]
PUBLISHED_ENTRIES: dict[tuple[str, int], int] = {
    ("pascal", 0): 346,
    ("pascal", 1): 451,
    ("pascal", 2): 725,
    ("pascal", 3): 346,
}
"""Entries of the published PASCAL-5i test lists."""
PUBLISHED_IMAGES: dict[tuple[str, int], int] = {
    ("coco", 0): 26_052,
    ("coco", 1): 15_305,
    ("coco", 2): 13_138,
    ("coco", 3): 12_640,
}
"""Distinct images of the published COCO-20i test lists."""
FSS_TEST_CLASSES = 240


class Entry(NamedTuple):
    """An image that represents a class."""

    name: str
    class_id: int


@dataclass(frozen=True, kw_only=True)
class EpisodeList:
    """Test entries of a fold, in the order that the sampling depends on."""

    fold: Fold
    """Fold of the test classes."""
    entries: tuple[Entry, ...]
    """Image names and class ids, in file order."""
    origin: Origin
    """Origin of the entries: published (a file with the published counts), given (another file) or derived (masks)."""

    def names_by_class(self) -> dict[int, list[str]]:
        """Return the image names of every test class, in order; empty if a class has no image."""
        names: dict[int, list[str]] = {class_id: [] for class_id in self.fold.test}
        for entry in self.entries:
            names[entry.class_id].append(entry.name)
        return names


def image_name(uri: str, benchmark: str) -> str:
    """Return the name of an image in the lists: its file name without suffix, preceded by its class for FSS-1000."""
    path = PurePosixPath(uri.replace("\\", "/"))
    return f"{path.parent.name}/{path.stem}" if benchmark == "fss" else path.stem


def read_list(folder: str, fold: Fold, classes: Mapping[int, str], names: Iterable[str]) -> EpisodeList:
    """Read the published test list of a fold.

    Args:
        folder: local folder or s3:// URI with ``pascal/``, ``coco/`` and ``fss/``.
        fold: fold to read.
        classes: class names by id of the test collection.
        names: image names of the test collection, since the lists of FSS-1000 contain classes only.

    Raises:
        ValueError: a file is missing or malformed.
    """
    if fold.benchmark == "fss":
        entries = _fss_entries(folder, classes, names)
        published = len({entry.class_id for entry in entries}) == FSS_TEST_CLASSES
    elif fold.benchmark == "coco":
        assert fold.number is not None
        entries = _coco_entries(storage.join(folder, "coco", "val", f"fold{fold.number}.pkl"))
        published = len({entry.name for entry in entries}) == PUBLISHED_IMAGES["coco", fold.number]
    elif fold.benchmark == "pascal":
        assert fold.number is not None
        entries = _pascal_entries(folder, fold.number)
        published = len(entries) == PUBLISHED_ENTRIES["pascal", fold.number]
    else:
        by_fold = [(number, _pascal_entries(folder, number)) for number in range(FOLDS)]
        published = all(len(part) == PUBLISHED_ENTRIES["pascal", number] for number, part in by_fold)
        entries = [entry for _, part in by_fold for entry in part if entry.class_id in fold.test]
    unexpected = sorted({entry.class_id for entry in entries} - set(fold.test))
    if unexpected:
        raise ValueError(f"the lists in {folder} have classes {unexpected[:5]}, which fold {fold.number} does not test")
    return EpisodeList(fold=fold, entries=tuple(entries), origin="published" if published else "given")


def read_fss_splits(folder: str, classes: Mapping[int, str]) -> dict[str, list[int]]:
    """Read FSS-1000's published class lists, ``fss/{trn,val,test}.txt``, as class ids by split.

    Raises:
        ValueError: a list is missing, or has a class that the collection lacks.
    """
    splits = {"train": "trn", "val": "val", "test": "test"}
    return {split: _fss_classes(storage.join(folder, "fss", f"{name}.txt"), classes) for split, name in splits.items()}


def read_training_entries(folder: str, benchmark: Literal["pascal", "coco"], number: int) -> list[Entry]:
    """Read the published training list of a fold of PASCAL or COCO.

    Raises:
        ValueError: a file is missing or malformed.
    """
    if benchmark == "coco":
        return _coco_entries(storage.join(folder, "coco", "trn", f"fold{number}.pkl"))
    others = [other for other in range(FOLDS) if other != number]
    return [entry for other in others for entry in _pascal_entries(folder, other, "trn")]


def derive_list(fold: Fold, names: Mapping[int, Sequence[str]]) -> EpisodeList:
    """Derive a fold's list from the masks: entries sorted by image name, then by class.

    Args:
        fold: fold to list.
        names: names by class id of all images that show the class.
    """
    entries = {Entry(name, class_id) for class_id in fold.test for name in names.get(class_id, ())}
    order = sorted(entries, key=lambda entry: (entry.class_id, entry.name)) if fold.benchmark == "fss" else None
    return EpisodeList(fold=fold, entries=tuple(order or sorted(entries)), origin="derived")


def _read(uri: str) -> bytes:
    try:
        return storage.read_bytes(uri)
    except OSError as error:
        raise ValueError(
            f"there is no split file {uri}; use the folder data/splits of HSNet's code "
            "(https://github.com/juhongm999/hsnet), or no folder to derive lists from the masks"
        ) from error


def _pascal_entries(folder: str, number: int, subset: str = "val") -> list[Entry]:
    uri = storage.join(folder, "pascal", subset, f"fold{number}.txt")
    entries = []
    for line in _read(uri).decode().split():
        name, _, class_id = line.rpartition("__")
        if not name or not class_id.isdigit() or not 1 <= int(class_id) <= 20:
            raise ValueError(f"{uri}: a line must be <image>__<class 1 to 20>, got {line!r}")
        entries.append(Entry(name, int(class_id)))
    return entries


def _coco_entries(uri: str) -> list[Entry]:
    content = _PlainUnpickler(io.BytesIO(_read(uri))).load()
    if not isinstance(content, dict) or not all(isinstance(names, list) for names in content.values()):
        raise ValueError(f"{uri} must contain a dictionary: class 0 to 79 -> list of image names")
    return [
        Entry(image_name(str(name), "coco"), int(class_id) + 1)
        for class_id, names in sorted(content.items())
        for name in names
    ]


def _fss_entries(folder: str, classes: Mapping[int, str], names: Iterable[str]) -> list[Entry]:
    class_ids = _fss_classes(storage.join(folder, "fss", "test.txt"), classes)
    by_class: dict[str, list[str]] = {}
    for name in sorted(names):
        by_class.setdefault(name.split("/")[0], []).append(name)
    return [Entry(name, class_id) for class_id in class_ids for name in by_class.get(classes[class_id], ())]


def _fss_classes(uri: str, classes: Mapping[int, str]) -> list[int]:
    ids = {name: class_id for class_id, name in classes.items()}
    names = _read(uri).decode().split()
    unknown = [name for name in names if name not in ids]
    if unknown:
        raise ValueError(f"{uri} has {len(unknown)} classes that the collection lacks, such as {unknown[:3]}")
    return [ids[name] for name in names]


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler of dictionaries, lists, text and numbers that rejects anything that could run code."""

    def find_class(self, module: str, name: str) -> type:
        raise ValueError(f"a split file must contain plain dictionaries and lists, but this one needs {module}.{name}")
