"""COCO's annotation files: pictures, objects and categories, checked entry by entry.

The form is described at https://cocodataset.org/#format-data. Roboflow, Label Studio, CVAT, SuperAnnotate and many
others write it. A faulty entry is left out and counted; the rest of the file is read.
"""

import gc
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fss.core import storage
from fss.core.printable import printable
from fss.images.outlines import has_outline

_LISTED = 12  # keys in a message
_WHOLE = re.compile(r"([0-9]{1,9})(?:\.0*)?")
CROWD = {None: 0, 0: 0, 1: 1, "0": 0, "1": 1}  # False equals 0, and True and 1.0 equal 1
"""Whether an object is a crowd, by its ``iscrowd``."""


@dataclass(kw_only=True)
class CocoPicture:
    """A picture of an annotation file."""

    name: str
    """File name, or address, as the file spells it; empty if it has none."""
    height: Any
    """Height in pixels, unchecked."""
    width: Any
    """Width in pixels, unchecked."""
    error: str | None = None
    """Reason why its objects cannot be told, ``"reason: text"``."""
    objects: list[tuple[str, int, Any]] = field(default_factory=list)
    """Category, 1 for a crowd, and segmentation of each object, unchecked."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Number of its objects that are left out, by reason."""


@dataclass(kw_only=True)
class CocoFile:
    """The contents of an annotation file."""

    uri: str
    """URI of the file."""
    pictures: list[CocoPicture]
    """Pictures in the order of the file."""
    categories: dict[str, str | None]
    """Name of each category by its id as text; None if the file does not name it."""
    parents: set[str]
    """Names of supercategories."""
    used: set[str]
    """Ids of the categories that objects have."""
    notes: list[str]
    """What is unusual about the file, and harmless."""
    warnings: list[str]
    """What looks wrong about the file, and the entries that belong to no picture."""


def read_coco_file(uri: str) -> CocoFile:
    """Read an annotation file.

    Raises:
        ValueError: the file is no JSON, no annotation file of COCO, or no object in it has an outline.
    """
    content = _check_form(uri, _parse(uri))
    left_out: Counter[str] = Counter()
    warnings: list[str] = []
    objects = [entry for entry in content["annotations"] if isinstance(entry, dict)]
    if objects and not any(has_outline(entry.get("segmentation")) for entry in objects):
        raise ValueError(
            f"{uri} has no outlines: no segmentation in it has polygons or run lengths (objects: {len(objects)}, with "
            f"{_some(objects[0])}); export polygons or masks, because boxes and key points give no masks"
        )
    left_out["objects that are no dictionaries"] += len(content["annotations"]) - len(objects)
    categories, parents = _read_categories(uri, content.get("categories"), warnings)
    if not categories:
        keys = {key for entry in objects if (key := entry_key(entry.get("category_id"))) is not None}
        categories = dict.fromkeys(sorted(keys))
        warnings.append(f"{uri} names no categories; the classes are called by their ids")
    pictures = _read_pictures(content["images"], left_out)
    used = _distribute(objects, pictures, categories, left_out)
    repeated = _repeated(entry.get("id") for entry in objects)
    warnings += [f"{uri}: {what} are left out ({count})" for what, count in left_out.items() if count]
    return CocoFile(
        uri=uri,
        pictures=[picture for _, picture in pictures if picture.name],
        categories=categories,
        parents=parents,
        used=used,
        notes=[
            f"{uri} has several objects with the id {printable(key[:40])}; all of them are read"
            for key in sorted(repeated)[:1]
        ],
        warnings=warnings,
    )


def _parse(uri: str) -> Any:
    """Return the content of a JSON file.

    Raises:
        ValueError: it is no JSON.
    """
    data = storage.read_bytes(uri)
    collects = gc.isenabled()
    gc.disable()  # JSON has no cycles, and collections while it grows take a fifth of the time
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        before, after = error.doc[: error.pos].rstrip()[-1:], error.doc[error.pos :].lstrip()[:1]
        hint = "a comma stands before a closing bracket" if before == "," and after in ("]", "}") else error.msg
        text = f"{hint}, in line {error.lineno}, column {error.colno}"
    except RecursionError:
        text = "its brackets are nested too deeply"
    except ValueError as error:  # no Unicode, or a number of thousands of digits
        text = str(error)
    finally:
        if collects:
            gc.enable()
    raise ValueError(f"{uri} is no valid JSON: {text}; the file starts with {data[:40]!r}")


def _check_form(uri: str, content: Any) -> dict[str, Any]:
    """Check that the content has the lists of an annotation file.

    Raises:
        ValueError: it has not; the message says what it has.
    """
    if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations")):
        return content
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(content, dict):
        kind = f"its top-level keys are {_some(content)}"
    elif isinstance(first, dict):
        kind = f"it is a list of {len(content)} entries with the keys {_some(first)}"
    else:
        kind = f"it is a {type(content).__name__}"
    raise ValueError(
        f"{uri} is no annotation file of COCO: {kind}; a COCO file has the lists images, annotations and categories"
    )


def _read_categories(uri: str, rows: Any, warnings: list[str]) -> tuple[dict[str, str | None], set[str]]:
    """Return the name of each category by id, and the names of supercategories.

    A category with two names is left out, because its objects could be either.
    """
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    categories: dict[str, str | None] = {}
    ambiguous: set[str] = set()
    for row in rows:
        key, name = entry_key(row.get("id")), _text(row.get("name"))
        if key is not None and categories.setdefault(key, name) != name:
            ambiguous.add(key)
            warnings.append(
                f"{uri} calls category {key} both {categories[key]!r} and {name!r}; its objects are left out, so give "
                "each category an id of its own"
            )
    kept = {key: name for key, name in categories.items() if key not in ambiguous}
    return kept, {name for row in rows if (name := _text(row.get("supercategory"))) is not None}


def _read_pictures(rows: list[Any], left_out: Counter[str]) -> list[tuple[str | None, CocoPicture]]:
    """Return the pictures with their ids."""
    pictures = []
    for row in rows:
        if not isinstance(row, dict):
            left_out["pictures that are no dictionaries"] += 1
            continue
        name, key = row.get("file_name", row.get("coco_url")), entry_key(row.get("id"))  # LVIS has addresses alone
        if not isinstance(name, str) or not name:
            left_out["pictures without a file_name"] += 1
            name = ""
        error = (
            "no-id: the annotation file gives the picture no id, so its objects are unknown" if key is None else None
        )
        pictures.append((key, CocoPicture(name=name, height=row.get("height"), width=row.get("width"), error=error)))
    repeated = _repeated(key for key, _ in pictures)
    for key, picture in pictures:
        if key in repeated:
            picture.error = (
                f"ambiguous-id: {repeated[key]} pictures of the annotation file have the id {printable(key[:40])}"
            )
    return pictures


def _distribute(
    objects: Iterable[dict[str, Any]],
    pictures: Iterable[tuple[str | None, CocoPicture]],
    categories: Mapping[str, str | None],
    left_out: Counter[str],
) -> set[str]:
    """Give every object to its picture, and return the categories of all of them."""
    owners = {key: picture for key, picture in pictures if key is not None}
    used = set()
    for entry in objects:
        picture = owners.get(entry_key(entry.get("image_id")) or "")
        category, crowd = entry_key(entry.get("category_id")), entry.get("iscrowd")
        if picture is None:
            left_out["objects of pictures that are not listed"] += 1
        elif category is None or category not in categories:
            picture.left_out["unknown-category"] += 1
        elif isinstance(crowd, (list, dict)) or crowd not in CROWD:
            picture.left_out["bad-iscrowd"] += 1
        else:
            used.add(category)
            picture.objects.append((category, CROWD[crowd], entry.get("segmentation")))
    return used


def entry_key(value: Any) -> str | None:
    """Return an id as text, so that 7, 7.0 and "7" are the same; None for what is no id."""
    if type(value) is int:
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.strip() or None if isinstance(value, str) else None


def whole_number(value: Any) -> int | None:
    """Return a whole number, also one that is written as 640.0, "640" or "640.0"; None for anything else."""
    if isinstance(value, str) and (match := _WHOLE.fullmatch(value)):
        return int(match[1])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _repeated(ids: Iterable[Any]) -> dict[str, int]:
    """Return how often each id occurs that occurs more than once."""
    counts = Counter(key for value in ids if (key := entry_key(value)) is not None)
    return {key: count for key, count in counts.items() if count > 1}


def _text(value: Any) -> str | None:
    """Return a name in one line of composed Unicode without spaces around it; None if there is none."""
    if type(value) in (int, float):
        return str(value)
    return printable(unicodedata.normalize("NFC", value.strip())) or None if isinstance(value, str) else None


def _some(mapping: Mapping[str, Any]) -> str:
    """Return the first keys of a dictionary for a message."""
    keys = [str(key)[:40] for key in mapping]
    rest = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(map(repr, keys[:_LISTED])) + rest if keys else "none"
