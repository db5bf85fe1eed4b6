"""Classes of a data set in COCO's form: COCO's own 80, or those that its annotation files name."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from fss.collection.sources.class_lists import Role, role_notes, role_of
from fss.collection.sources.coco_file import CocoFile
from fss.images.mask_codec import MAX_CLASS_ID

COCO_CLASSES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
CATEGORY_IDS = tuple(sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}))
"""COCO's own category ids, which have gaps: ``CATEGORY_IDS[c - 1]`` is class c."""
IGNORE_CATEGORY = 65536
"""Category id of ignored pixels in our own exports, above every class id."""
IGNORE_LABEL = "ignore"
"""Name of that category."""
_COCO = {str(key): (number, name) for number, (key, name) in enumerate(zip(CATEGORY_IDS, COCO_CLASSES, strict=True), 1)}
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
BACKGROUND = 0
"""Class id of what is painted as background."""


@dataclass(frozen=True, kw_only=True)
class CocoClasses:
    """Classes of a data set."""

    ids: Mapping[str, int]
    """Class id by category id as text; ``BACKGROUND`` for categories that are called so."""
    names: Mapping[int, str]
    """Class name by class id; a class without a name is left out."""
    ignored: frozenset[str] = frozenset()
    """Categories whose pixels are ignored."""
    notes: tuple[str, ...] = ()
    """How class ids differ from the category ids of the files."""
    warnings: tuple[str, ...] = ()
    """How class names differ from those of the files."""

    def id_and_crowd(self, category: str, crowd: int) -> tuple[int, int]:
        """Return the class id of an object and whether its pixels are ignored, 0 or 1, as a listing stores them."""
        if category in self.ignored:
            return BACKGROUND, 1
        class_id = self.ids[category]
        return class_id, crowd * (class_id != BACKGROUND)


def find_classes(files: Sequence[CocoFile]) -> CocoClasses:
    """Return the classes of annotation files that belong together.

    Categories called background stand for no class, and categories called void or ignored for ignored pixels, as in
    class lists (:mod:`fss.collection.sources.class_lists`). The class ids of the others are 1 to 80 if all of them are
    COCO's. Otherwise they are the category ids; they count from 1 where a category has the id 0, and are numbered where
    they are no class ids.

    Raises:
        ValueError: two files give a category different names.
    """
    categories = _merge(files)
    used = {key for file in files for key in file.used}
    if _is_parent("0", categories, files) and "0" not in used:
        del categories["0"]
    background, ignored = (_with_role(categories, role) for role in get_args(Role))
    told = _roles(categories, used, background, ignored)
    categories = {key: name for key, name in categories.items() if key not in background | ignored}
    no_class = dict.fromkeys(background, BACKGROUND)
    if _is_coco(categories):
        ids = {key: _COCO[key][0] for key in categories}
        return CocoClasses(ids=ids | no_class, names=dict(enumerate(COCO_CLASSES, 1)), ignored=ignored, notes=told)
    ids, notes = _number(list(categories))
    names, renamed = _unique_names(categories)
    return CocoClasses(
        ids=ids | no_class,
        names={ids[key]: name for key, name in names.items()},
        ignored=ignored,
        notes=(*told, *notes),
        warnings=tuple(renamed),
    )


def _merge(files: Sequence[CocoFile]) -> dict[str, str | None]:
    """Return the names of the categories of all files."""
    categories: dict[str, str | None] = {}
    for file in files:
        for key, name in file.categories.items():
            known = categories.get(key)
            if None not in (known, name) and known != name:
                raise ValueError(
                    f"{file.uri} calls category {key} {name!r}, and another file of the source calls it {known!r}; "
                    "ingest one of them with --source.annotations FILE or --source.subset NAME"
                )
            categories[key] = known or name
    return categories


def _is_parent(key: str, categories: Mapping[str, str | None], files: Sequence[CocoFile]) -> bool:
    """Return whether a category is the parent of the others, as Roboflow has it."""
    name = categories.get(key)
    return name is not None and len(categories) > 1 and any(name in file.parents for file in files)


def _with_role(categories: Mapping[str, str | None], role: Role) -> frozenset[str]:
    """Return the categories whose names stand for background, or for ignored pixels."""
    return frozenset(key for key, name in categories.items() if name is not None and role_of(name) == role)


def _roles(
    categories: Mapping[str, str | None], used: set[str], background: frozenset[str], ignored: frozenset[str]
) -> tuple[str, ...]:
    """Say which categories with objects are no classes, those of our own exports aside."""
    keys: dict[Role, frozenset[str]] = {"background": background, "void": ignored - {str(IGNORE_CATEGORY)}}
    names = {role: sorted(f"{categories[key]!r} ({key})" for key in keys[role] & used) for role in keys}
    return tuple(role_notes("categories", names))


def _is_coco(categories: Mapping[str, str | None]) -> bool:
    """Return whether every id and name is COCO's; a list without names has to have COCO's very 80 ids."""
    named = {key: name for key, name in categories.items() if name is not None}
    agrees = all(key in _COCO and _COCO[key][1] == name for key, name in named.items())
    return agrees and (categories.keys() == _COCO.keys() or (bool(named) and len(named) == len(categories)))


def _number(categories: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Return class ids from 1 to 65535 by category id, and how they differ."""
    numbers = {key: int(key) for key in categories if _NUMBER.fullmatch(key)}
    shift = int(0 in numbers.values())
    if len(numbers) == len(categories) and max(numbers.values(), default=0) + shift <= MAX_CLASS_ID:
        notes = ["category ids begin at 0, so every class id is its category id plus 1"] if shift else []
        return {key: number + shift for key, number in numbers.items()}, notes
    ordered = sorted(categories, key=lambda key: (key not in numbers, numbers.get(key, 0), key))
    first, last = ordered[0], ordered[-1]
    note = (
        f"category ids from {first!r} to {last!r} are no class ids, which are whole numbers from 1 to {MAX_CLASS_ID}; "
        f"the classes are numbered from 1 to {len(ordered)} in the order of the ids"
    )
    return {key: number for number, key in enumerate(ordered, 1)}, [note]


def _unique_names(categories: Mapping[str, str | None]) -> tuple[dict[str, str], list[str]]:
    """Return names by category id, the id appended where several categories have one name, and which those are."""
    named = {key: name for key, name in categories.items() if name is not None}
    counts = Counter(named.values())
    repeated = sorted(name for name, count in counts.items() if count > 1)
    names = {key: f"{name} ({key})" if counts[name] > 1 else name for key, name in named.items()}
    if not repeated:
        return names, []
    return names, [f"several categories are called {', '.join(repeated[:5])}; their ids are appended to the names"]
