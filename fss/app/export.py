"""The masks of a session as files of other programs, and as a mask set of a collection."""

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fss.app.photographs import Photographs, folder_source
from fss.app.session import Session
from fss.collection import TRUTH, Collection, MaskSet, ingest_local
from fss.collection.annotations.coco import write_coco
from fss.collection.annotations.png import CLASSES, MASKS, PngTables
from fss.collection.class_names import BACKGROUND, clean, resolve_labels
from fss.collection.collection_file import collection_exists
from fss.collection.image_names import ImageRoot, match_images, usable_photographs
from fss.collection.mask_export import ExportedMask, safe_name
from fss.collection.part_io import check_name
from fss.collection.schema import mask_table
from fss.collection.sources.coco_categories import IGNORE_LABEL
from fss.core import storage
from fss.core.arrays import UInt8
from fss.core.config import config_hash
from fss.images.mask_codec import decode_mask, encode_mask, mask_row


def coco_file(session: Session, label: str, classes: Mapping[int, str] | None = None) -> bytes:
    """Return the masks as COCO instances of one category.

    Args:
        session: the masks.
        label: name of the object, and of the category.
        classes: classes of the collection that the file will be imported into; they give the id of the category.

    Raises:
        ValueError: there is no mask, or the label is empty, reserved or contradicts the classes.
    """
    pieces = io.BytesIO()
    class_id, name = _category(label, classes or {})
    write_coco(_exported(session, class_id), {class_id: name}, ImageRoot(uri=session.photographs.root), pieces.write)
    return pieces.getvalue()


def png_archive(session: Session, label: str, classes: Mapping[int, str] | None = None) -> bytes:
    """Return a ZIP with the masks as PNGs, 255 on the object, masks.csv and classes.csv; as :func:`coco_file`."""
    archive, tables = io.BytesIO(), PngTables("object")
    class_id, name = _category(label, classes or {})
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as files:  # PNGs are compressed already
        for exported in _exported(session, class_id):
            files.writestr(*tables.encode(exported))
        files.writestr(CLASSES, tables.classes({class_id: name}))
        files.writestr(MASKS, tables.masks())
    return archive.getvalue()


@dataclass(frozen=True, kw_only=True)
class Written:
    """A mask set that was written."""

    mask_set: MaskSet
    """The mask set."""
    masks: int
    """Its masks, with the empty ones."""
    empty: int
    """Its masks without the object."""
    unmatched: int
    """Masks that are left out, since the collection lacks their photographs."""
    without: int
    """Usable photographs of the collection that have no mask in the set."""

    def words(self) -> str:
        """Return what was written, in a line."""
        parts = {
            "with the object": self.masks - self.empty,
            "without it (empty masks)": self.empty,
            "that no mask was made for": self.without,
            "not written, because the collection lacks them": self.unmatched,
        }
        counts = [f"{count:,} {what}" for what, count in parts.items() if count]
        return f"The mask set {self.mask_set.name} is written. Photographs: {', '.join(counts)}."


def write_mask_set(session: Session, collection: str, name: str, label: str, *, overwrite: bool = False) -> Written:
    """Write the masks as a mask set of a collection, which is made from the folder of the photographs if it is new.

    Photographs without a mask get a row with the reason.

    Args:
        session: the masks.
        collection: local folder or s3:// URI.
        name: name of the mask set.
        label: name of the object; it becomes a class of the collection.
        overwrite: replace a mask set of that name that has other masks.

    Raises:
        ValueError: there is no mask, the name or the label is invalid, no photograph is in the collection, or there is
            another mask set of that name.
    """
    check_name(name, "the mask set")
    if name == TRUTH:
        raise ValueError(f"the mask set {TRUTH!r} belongs to the collection's source; choose another name")
    masks, empty = {}, set()
    for position, mask in _some_masks(session):
        masks[position] = encode_mask(mask)
        if not (mask == 1).any():
            empty.add(position)
    target = _open_or_ingest(collection, session.photographs)
    class_id, label = _category(label, target.classes)
    matches = _match(target, session.photographs, list(masks))
    used = {image_id: masks[position] for image_id, position in matches.items()}
    hashes = sorted((image_id, hashlib.sha256(mask).hexdigest()) for image_id, mask in used.items())
    contents = config_hash("app", class_id, hashes)
    if not overwrite and name in target.mask_set_names() and target.mask_set(name).config_hash != contents:
        raise ValueError(f"{collection} has a mask set {name!r} with other masks; replace it, or choose another name")
    mask_set = target.create_mask_set(
        name,
        config_hash=contents,
        provenance={
            "method": "app",
            "object": label,
            "learner": session.predictor.segmenter.config.learner,
            "examples": [session.photographs[position].name for position in session.examples],
            "photographs": dict(session.counts()),
        },
        overwrite=overwrite,
    )
    if class_id not in target.classes:
        target.add_classes({class_id: label})
    usable = 0
    for part in target.part_names():
        rows = target.read_part(part, ["image_id", "error"]).to_pylist()
        usable += sum(not row["error"] for row in rows)
        mask_set.write_part(part, mask_table(_row(row, used.get(row["image_id"]), class_id) for row in rows))
    return Written(
        mask_set=mask_set,
        masks=len(used),
        empty=sum(position in empty for position in matches.values()),
        unmatched=len(masks) - len(used),
        without=usable - len(used),
    )


def _category(label: str, classes: Mapping[int, str]) -> tuple[int, str]:
    """Return the class id of a label, new or known, and its clean spelling."""
    name = clean(label)
    resolved, _ = resolve_labels({(name, None)}, classes, ignore=IGNORE_LABEL)
    class_id = resolved[name, None]
    if class_id is None or class_id == BACKGROUND:
        role = "ignored pixels" if class_id is None else "the background"
        raise ValueError(f"{name!r} is the label of {role}; choose another name of the object")
    return class_id, name


def _some_masks(session: Session) -> Iterator[tuple[int, UInt8]]:
    """Yield the masks of a session, of which there must be one."""
    empty = True
    for position, mask in session.masks():
        empty = False
        yield position, mask
    if empty:
        raise ValueError("there is no mask yet; mark the object in a photograph first")


def _exported(session: Session, class_id: int) -> Iterator[ExportedMask]:
    for position, mask in _some_masks(session):
        photograph, image_id = session.photographs[position], session.photographs.image_id(position)
        yield ExportedMask(
            name=safe_name(photograph.uri, image_id),
            image_id=image_id,
            uri=photograph.uri,
            mask=mask,
            classes=(class_id,) if (mask == 1).any() else (),
        )


def _open_or_ingest(collection: str, photographs: Photographs) -> Collection:
    """Open a collection, or make it from the folder of the photographs."""
    if collection_exists(storage.absolute_uri(collection)):
        return Collection.open(collection)
    return ingest_local(folder_source(photographs.root), collection)


def _match(collection: Collection, photographs: Photographs, positions: Sequence[int]) -> dict[str, int]:
    """Return the positions of photographs by the image ids of a collection."""
    entries = [(photographs.image_id(position), photographs[position].name) for position in positions]
    matches = match_images(usable_photographs(collection), entries)
    if not matches.entries:
        raise ValueError(
            f"none of the photographs of {photographs.root} is in the collection {collection.uri}; name another folder "
            "as --collection, and the photographs are ingested into it"
        )
    return {image_id: positions[number] for image_id, number in matches.entries.items()}


def _row(row: Mapping[str, Any], mask: bytes | None, class_id: int) -> dict[str, Any]:
    """Return the mask row of an image."""
    if row["error"]:
        return mask_row(row["image_id"], None, error="no-image: the photograph cannot be used")
    if mask is None:
        return mask_row(row["image_id"], None, error="not-in-app: no mask was made for it")
    decoded = decode_mask(mask)
    return mask_row(row["image_id"], decoded, [class_id] if (decoded == 1).any() else [])
