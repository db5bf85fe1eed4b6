"""Labels of annotation files as classes of a collection."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping

from fss.collection.sources.base import BINARY_CLASS
from fss.collection.sources.class_lists import role_of
from fss.images.mask_codec import MAX_CLASS_ID

_UNNAMED = re.compile(r"class (\d{1,9})")  # label of a class without a name, see annotations.base.class_labels

Label = tuple[str, int | None]
"""Name of a class and its id in the file, if there is one."""
BACKGROUND = -1
"""Stands for no class among class ids, of which 0 may be one."""


def resolve_labels(
    labels: Collection[Label], classes: Mapping[int, str], *, ignore: str
) -> tuple[dict[Label, int | None], dict[int, str]]:
    """Return the class id of every label and the classes to add to the collection.

    A name decides; the id in the file only tells classes of the same name apart, and suggests the id of a new class.
    Labels called background are ``BACKGROUND``, and those called void or ignored None, unless the collection has a
    class of that name.

    Args:
        labels: labels in the file.
        classes: class names of the collection by id.
        ignore: label of ignored pixels.

    Raises:
        ValueError: a label contradicts the classes of the collection.
    """
    by_name: dict[str, list[int]] = {}
    for class_id, name in classes.items():
        by_name.setdefault(clean(name), []).append(class_id)
    unnamed = {int(match[1]) for label, _ in labels if (match := _UNNAMED.fullmatch(clean(label)))}
    resolved: dict[Label, int | None] = {}
    added: dict[int, str] = {}
    for label, category in sorted(set(labels), key=lambda pair: (pair[0], -1 if pair[1] is None else pair[1])):
        name = clean(label)
        if name == ignore:
            if name in by_name:
                raise ValueError(
                    f"the label {name!r} means ignored pixels, but class {by_name[name][0]} has that name; rename the "
                    "label in the file if it is the class"
                )
            resolved[label, category] = None
            continue
        candidates = by_name.get(name, [])
        if not candidates and (role := role_of(name)) is not None:
            resolved[label, category] = BACKGROUND if role == "background" else None
            continue
        if len(candidates) > 1 and category not in candidates:
            raise ValueError(
                f"the classes {candidates} are all named {name!r}; the label {name!r} could mean any of them"
            )
        if candidates:
            resolved[label, category] = category if category in candidates else candidates[0]
        elif match := _UNNAMED.fullmatch(name):
            resolved[label, category] = _unnamed_class(name, int(match[1]), classes)
        else:
            _check_spelling(name, [*classes.values(), *added.values()])
            class_id = _free_id(category, {*classes, *added, *unnamed})
            added[class_id] = name
            by_name[name] = [class_id]
            resolved[label, category] = class_id
    return resolved, added


def check_class_table(table: Mapping[int, str], classes: Mapping[int, str]) -> dict[int, str]:
    """Return the classes of a table that the collection lacks.

    Args:
        table: class names by id.
        classes: class names of the collection by id.

    Raises:
        ValueError: an id or a name stands for another class in the collection.
    """
    ids = {clean(name): class_id for class_id, name in classes.items()}
    added: dict[int, str] = {}
    for class_id, text in table.items():
        name = clean(text)
        if class_id in classes:
            if clean(classes[class_id]) != name:
                raise ValueError(
                    f"class {class_id} is {name!r} in the files, but {classes[class_id]!r} in the collection"
                )
        elif name in ids:
            raise ValueError(f"{name!r} is class {class_id} in the files, but class {ids[name]} in the collection")
        elif not _UNNAMED.fullmatch(name):
            _check_spelling(name, [*classes.values(), *added.values()])
            added[class_id] = name
    return added


def check_same_names(classes: Mapping[int, str], others: Mapping[int, str], *, where: str, elsewhere: str) -> None:
    """Check that the class ids that two collections share stand for the same classes; classes without names agree.

    Args:
        classes: class names by id.
        others: those of the other collection.
        where: URI of the collection.
        elsewhere: that of the other one.

    Raises:
        ValueError: an id has another name there.
    """
    common = sorted(classes.keys() & others.keys())
    differing = [
        class_id
        for class_id in common
        if clean(classes[class_id]) != clean(others[class_id])
        and not _UNNAMED.fullmatch(clean(classes[class_id]))
        and not _UNNAMED.fullmatch(clean(others[class_id]))
    ]
    if differing:
        first = differing[0]
        raise ValueError(
            f"class {first} is {classes[first]!r} in {where}, but {others[first]!r} in {elsewhere}, and "
            f"{len(differing)} of {len(common)} common ids differ; ingest both with one table of classes "
            "(--source.classes FILE)"
        )


def clean(name: str) -> str:
    """Return a class name in Unicode's composed form, without spaces around it."""
    return unicodedata.normalize("NFC", name).strip()


def _unnamed_class(label: str, class_id: int, classes: Mapping[int, str]) -> int:
    if class_id in classes:
        raise ValueError(
            f"the label {label!r} stands for class {class_id}, which is {classes[class_id]!r} in the collection; "
            "rename the label in the file"
        )
    return class_id


def _check_spelling(name: str, others: Iterable[str]) -> None:
    """Refuse a name that is no text, and a new class that differs from another in upper and lower case only."""
    if not name or name.encode(errors="ignore").decode() != name:
        raise ValueError(f"the label {name!r} is empty or no valid Unicode; rename it in the files")
    for other in others:
        if clean(other).casefold() == name.casefold():
            raise ValueError(f"the files have the label {name!r}, and there is a class {other!r}; spell both alike")


def _free_id(suggested: int | None, taken: set[int]) -> int:
    """Return an id for a new class; that of binary masks stays free, since collections without names use it."""
    if suggested is not None and BINARY_CLASS < suggested <= MAX_CLASS_ID and suggested not in taken:
        return suggested
    return max([BINARY_CLASS, *taken]) + 1
