"""A folder of PNGs, one per photograph, with two tables.

``masks.csv`` names the photograph and the classes of every mask, and the meaning of pixel values. ``classes.csv`` names
the classes; a class that a person adds gets a line there.
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from fss.collection import part_io
from fss.collection.class_names import check_class_table, clean
from fss.collection.collection import Collection
from fss.collection.image_names import Photograph
from fss.collection.mask_export import ExportedMask, Values, encode_png, safe_name
from fss.collection.sources.base import BINARY_CLASS
from fss.collection.sources.class_lists import role_of
from fss.collection.sources.walk import walk
from fss.core import storage
from fss.core.arrays import IGNORE, Mask
from fss.images.binary_labels import GREY_RANGE
from fss.images.decode_errors import DecodeError
from fss.images.label_samples import LabelPicture, decode_label_picture
from fss.images.labels import Binary, Index, interpret_labels
from fss.images.limits import DecodeLimits

MASKS, CLASSES = "masks.csv", "classes.csv"
_COLUMNS = ("mask", "image_id", "photograph", "classes", "values")
ReadValues = Values | Literal["saliency"]
"""Meaning of pixel values that are read: saliency is an object of no known class, as estimators draw it."""
_MEANINGS: dict[str, Values] = {"object": "object", "class": "class"}
_IGNORED = 128  # value of ignored pixels in masks of objects


@dataclass(frozen=True, kw_only=True)
class PngImage:
    """The mask of one photograph."""

    name: str
    """Name of the photograph, or of the mask if there is no masks.csv."""
    image_id: str | None
    """Image id, if it is known."""
    uri: str
    """URI of the PNG."""
    values: ReadValues
    """Meaning of the pixel values."""
    class_ids: frozenset[int]
    """Classes that the mask may have; of objects, at most one."""

    def read(self, size: tuple[int, int], limits: DecodeLimits) -> tuple[Mask, list[int]]:
        """Return the index mask, uint8 [H,W], of a photograph of this height and width, and its class ids.

        Raises:
            DecodeError: the picture is no such mask.
            OSError: the file cannot be read.
        """
        picture = decode_label_picture(storage.read_bytes(self.uri, limits.max_bytes + 1), limits)
        if picture.shape != size:
            raise DecodeError("size-mismatch", f"the mask is {picture.shape}, the photograph {size} (height, width)")
        if self.values == "saliency":
            mask = _bright(picture)
            return mask, list(self.class_ids) if mask.any() else []
        return self._object(picture) if self.values == "object" else self._classes(picture)

    def _object(self, picture: LabelPicture) -> tuple[Mask, list[int]]:
        if _is_ignored_only(picture):
            assert picture.values is not None
            return np.where(picture.values == _IGNORED, IGNORE, 0).astype(np.uint8), []
        mask = interpret_labels(picture, Binary(unsure=True)).mask
        if not (mask == 1).any():
            return mask, []
        if not self.class_ids:
            raise DecodeError("unknown-class", f"it shows an object, but {MASKS} names no class for it")
        return mask, list(self.class_ids)

    def _classes(self, picture: LabelPicture) -> tuple[Mask, list[int]]:
        # Ignored pixels are read as one more class, since a mask may consist of them alone.
        label = interpret_labels(picture, Index(void=(), class_ids=self.class_ids | {IGNORE}))
        table = np.zeros(256, np.uint8)
        kept = [class_id for class_id in label.class_ids if class_id != IGNORE]
        for value, class_id in enumerate(label.class_ids, start=1):
            table[value] = IGNORE if class_id == IGNORE else kept.index(class_id) + 1
        return table[label.mask], kept


@dataclass(kw_only=True)
class PngFolder:
    """Content of a folder of PNGs."""

    images: list[PngImage] = field(default_factory=list)
    """Masks, sorted by file name."""
    problems: list[str] = field(default_factory=list)
    """Entries that are left out, and why."""
    new_classes: dict[int, str] = field(default_factory=dict)
    """Classes of classes.csv that the collection lacks."""
    hash: str = ""
    """Hash of the names and contents of all files, 16 hex digits."""


class PngTables:
    """The rows of masks.csv and classes.csv while masks are exported."""

    def __init__(self, values: Values):
        self._values = values
        self._rows: list[list[str]] = []
        self._class_ids: set[int] = set()

    def encode(self, exported: ExportedMask) -> tuple[str, bytes]:
        """Return the file name and the bytes of a mask, and note its row.

        Raises:
            ValueError: a class id does not fit into 8 bits.
        """
        name = f"{exported.name}.png"
        ids = " ".join(map(str, exported.classes))
        self._rows.append([name, exported.image_id, exported.uri, ids, self._values])
        self._class_ids.update(exported.classes)
        return name, encode_png(exported, self._values)

    def masks(self) -> bytes:
        """Return masks.csv."""
        return _encode_table(_COLUMNS, self._rows)

    def classes(self, class_names: Mapping[int, str]) -> bytes:
        """Return classes.csv, with the names of the classes of the masks."""
        rows = [[str(key), class_names.get(key, f"class {key}")] for key in sorted(self._class_ids)]
        return _encode_table(("id", "name"), rows)


def check_png_folder(uri: str) -> None:
    """Check that an export of PNGs replaces no tables of others in a folder.

    Raises:
        ValueError: there is a masks.csv that no export has written, or a classes.csv without one of an export.
    """
    masks, classes = (storage.join(uri, name) for name in (MASKS, CLASSES))
    if part_io.exists(masks):
        foreign = None if storage.read_bytes(masks, 4096).startswith(b"mask,image_id") else masks
    else:
        foreign = classes if part_io.exists(classes) else None
    if foreign is not None:
        raise ValueError(f"{foreign} is not of an export of masks, which would replace it; give another folder")


def read_png_folder(
    uri: str, collection: Collection, photographs: Sequence[Photograph], values: ReadValues | None
) -> PngFolder:
    """List a folder of PNGs.

    Args:
        uri: folder.
        collection: collection with the photographs.
        photographs: usable photographs of the collection.
        values: meaning of the pixel values; None takes it from masks.csv. Saliency gives every mask the class of
            estimated masks, which is 1 in every collection.

    Raises:
        ValueError: the meaning of the values is unknown, masks of objects stand for several classes, or classes.csv
            contradicts the collection.
    """
    uris = walk(uri).uris
    pngs = {path: file for path, file in uris.items() if path.lower().endswith(".png")}
    folder = PngFolder(hash=_hash(uris, [*pngs, *(name for name in (MASKS, CLASSES) if name in uris)]))
    rows = {row["mask"]: row for row in _read_table(uris[MASKS], ("mask",))} if MASKS in uris else {}
    table = _class_table(uris[CLASSES]) if CLASSES in uris else {}
    table = _without_roles(table, collection.classes, uris.get(CLASSES, CLASSES))
    folder.new_classes = check_class_table(table, collection.classes)
    listed = {name: _ids(row.get("classes")) for name, row in rows.items()}
    every_id = frozenset(collection.classes).union(table, *listed.values())
    objects = _object_classes(collection, listed)
    image_ids = {safe_name(photograph.name, photograph.image_id): photograph.image_id for photograph in photographs}
    if values == "saliency":
        listed, objects = {}, frozenset({BINARY_CLASS})
    default = next((row["values"] for row in rows.values() if row.get("values")), "")
    for path, file in pngs.items():
        row = rows.get(path, {})
        meaning = values or _MEANINGS.get(row.get("values") or default)
        if meaning is None:
            raise ValueError(
                f"{uri} does not say what the pixel values mean; give --values class if they are class ids, "
                "--values object if 255 is the object and 128 is ignored, or --values saliency for salient objects of "
                "any class"
            )
        classes = every_id if meaning == "class" else listed.get(path) or objects
        if meaning != "class" and len(classes) > 1:
            raise ValueError(
                f"{path} stands for the classes {sorted(classes)}, and its pixels do not tell them apart; export with "
                "`fss masks export COLLECTION MASK_SET --output FOLDER --values class` and edit those masks"
            )
        image_id = row.get("image_id") or image_ids.get(PurePosixPath(path).stem)
        name = row.get("photograph") or path
        folder.images.append(PngImage(name=name, image_id=image_id, uri=file, values=meaning, class_ids=classes))
    folder.problems += [f"{name}: {MASKS} lists it, but there is no such file" for name in rows if name not in pngs]
    return folder


def _bright(picture: LabelPicture) -> Mask:
    """Return the pixels of a saliency map above half of white, or of opacity in a cut-out, uint8 [H,W] of 0 and 1.

    Raises:
        DecodeError: the picture has colours, as a photograph or a heat map.
    """
    if picture.alpha is not None:
        return np.asarray(picture.alpha > 127, np.uint8)
    if picture.values is not None and picture.palette is None:
        return np.asarray(2 * picture.values.astype(np.int64) > picture.full, np.uint8)
    colors = picture.colors.astype(np.int16)
    if int((colors.max(2) - colors.min(2)).max()) > GREY_RANGE:
        raise DecodeError("colors", "a saliency map is grey, or transparent outside of the object, but it has colours")
    return np.asarray(colors[..., 1] > 127, np.uint8)


def _is_ignored_only(picture: LabelPicture) -> bool:
    """Return whether a picture is grey and has ignored pixels but no object."""
    if picture.values is None or picture.palette is not None or picture.alpha is not None or picture.full != 255:
        return False
    return set(np.unique(picture.values).tolist()) <= {0, _IGNORED}


def _object_classes(collection: Collection, listed: Mapping[str, frozenset[int]]) -> frozenset[int]:
    """Return the class of masks for which masks.csv names none: the only one of the table or of the collection."""
    ids = frozenset().union(*listed.values()) or frozenset(collection.classes) or frozenset({BINARY_CLASS})
    return ids if len(ids) == 1 else frozenset()


def _class_table(uri: str) -> dict[int, str]:
    table: dict[int, str] = {}
    for row in _read_table(uri, ("id", "name")):
        if not row["id"].strip().isdecimal():
            raise ValueError(f"{uri} has the id {row['id']!r}; ids of classes are whole numbers")
        if table.setdefault(int(row["id"]), row["name"]) != row["name"]:
            raise ValueError(f"{uri} names class {row['id']} twice; keep one line")
    return table


def _without_roles(table: Mapping[int, str], classes: Mapping[int, str], uri: str) -> dict[int, str]:
    """Return a class table without the lines of the background and of ignored pixels, whose values are fixed.

    Raises:
        ValueError: another value is called so, or 0 is called a class.
    """
    fixed = {"background": (0, "background"), "void": (IGNORE, "ignored pixels")}
    kept = {}
    for class_id, text in table.items():
        name = clean(text)
        role = None if class_id in classes else role_of(name)
        if role is None and class_id == 0:
            raise ValueError(
                f"{uri} calls the value 0 {name!r}, but 0 is background in masks; number the classes from 1"
            )
        if role is None:
            kept[class_id] = text
        elif class_id != fixed[role][0]:
            value, meaning = fixed[role]
            raise ValueError(
                f"{uri} calls the value {class_id} {name!r}, but the value of {meaning} is {value}; change the masks, "
                "or rename the class"
            )
    return kept


def _read_table(uri: str, required: Sequence[str]) -> Iterator[dict[str, str]]:
    try:
        text = storage.read_bytes(uri).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{uri} is no CSV table in UTF-8: {error}") from error
    for number, row in enumerate(rows, start=2):
        if any(not row.get(column) for column in required):
            raise ValueError(f"{uri}, line {number}: it needs the columns {', '.join(required)}")
        yield {key: value for key, value in row.items() if isinstance(key, str) and isinstance(value, str)}


def _encode_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows(rows)
    return text.getvalue().encode()


def _ids(text: str | None) -> frozenset[int]:
    return frozenset(int(word) for word in (text or "").split() if word.isdecimal())


def _hash(uris: Mapping[str, str], names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        content = hashlib.sha256(storage.read_bytes(uris[name])).hexdigest()
        digest.update(f"{name}:{content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
