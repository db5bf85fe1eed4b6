"""Import of masks that other programs edited, as a new mask set of the collection that they were exported from.

Entries of the files are matched to photographs by image id, then by name, and labels to classes by name. Every
photograph gets a row: a mask, or the reason why there is none. An import can be repeated after a crash; equal files
give equal masks.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fss.collection.annotations.base import AnnotatedImage, AnnotationFile
from fss.collection.annotations.files import READERS, Form, find_files
from fss.collection.annotations.painting import paint
from fss.collection.annotations.png import PngImage, ReadValues, read_png_folder
from fss.collection.class_names import BACKGROUND, Label, resolve_labels
from fss.collection.collection import Collection
from fss.collection.image_names import Matches, Photograph, match_images, usable_photographs
from fss.collection.mask_set import TRUTH, MaskSet
from fss.collection.schema import mask_table
from fss.collection.sources.class_lists import Role, role_notes
from fss.collection.sources.coco_categories import IGNORE_LABEL
from fss.core.arrays import IGNORE
from fss.core.config import config_hash
from fss.core.hashing import file_hash
from fss.images.decode_errors import DecodeError
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import mask_row

THREADS = 4  # concurrent masks per part: hides the latency of an object store, and bounds the masks in memory


@dataclass(kw_only=True)
class ImportReport:
    """What an import wrote, and what it left out."""

    mask_set: MaskSet
    """The new mask set."""
    form: Form
    """Form of the files."""
    photographs: int = 0
    """Usable photographs of the collection."""
    masks: int = 0
    """Masks written."""
    without_mask: list[str] = field(default_factory=list)
    """Names of the usable photographs that the files have no mask for."""
    unmatched: list[str] = field(default_factory=list)
    """Names in the files that fit no photograph."""
    ambiguous: list[str] = field(default_factory=list)
    """Names in the files that fit several photographs, or the same one as another name."""
    problems: list[str] = field(default_factory=list)
    """Objects and masks that are left out, and why."""
    new_classes: dict[int, str] = field(default_factory=dict)
    """Classes that were added to the collection."""
    notes: list[str] = field(default_factory=list)
    """What a user should know about the files."""

    @property
    def is_complete(self) -> bool:
        """Whether every photograph has a mask and nothing was left out."""
        return not (self.without_mask or self.unmatched or self.ambiguous or self.problems)


def import_masks(
    collection: Collection,
    name: str,
    source: str,
    *,
    form: Form | None = None,
    values: ReadValues | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Import masks as a new mask set.

    Args:
        collection: collection with the photographs.
        name: name of the new mask set.
        source: file, or folder with PNGs or with one annotation file; local or s3://.
        form: form of the files; None tells it from their content.
        values: meaning of the pixel values of PNGs; None takes it from masks.csv.
        overwrite: replace a mask set of that name that was made from other files.

    Raises:
        ValueError: the files cannot be read, fit no photograph, or name classes that contradict the collection's; or
            there is another mask set of that name.
    """
    if name == TRUTH:
        raise ValueError(f"the mask set {TRUTH!r} belongs to the collection's source; choose another --name")
    source, form = find_files(source, form)
    photographs = usable_photographs(collection)
    if form == "png":
        folder = read_png_folder(source, collection, photographs, values)
        images: Sequence[AnnotatedImage | PngImage] = folder.images
        found = AnnotationFile(problems=folder.problems)
        fingerprint = folder.hash
    else:
        found = READERS[form](source)
        images, fingerprint = found.images, file_hash(source, "annotation file")
    entries = [(image.image_id, image.name) for image in images]
    matches = match_images(photographs, entries, any_suffix=form == "png")
    if not matches.entries:
        raise ValueError(_nothing_matches(source, entries, photographs, twice=bool(matches.ambiguous)))
    used = [images[number] for number in matches.entries.values()]
    labels = {
        (shape.label, shape.category) for image in used if isinstance(image, AnnotatedImage) for shape in image.shapes
    }
    class_ids, new_classes = resolve_labels(labels, collection.classes, ignore=IGNORE_LABEL)
    if form == "png":
        new_classes = folder.new_classes
    mask_set = collection.create_mask_set(
        name,
        config_hash=config_hash("import", form, values, fingerprint),
        provenance={"method": "import", "form": form, "source": source, "hash": fingerprint},
        overwrite=overwrite,
    )
    if new_classes:
        collection.add_classes(new_classes)
    report = ImportReport(
        mask_set=mask_set,
        form=form,
        photographs=len(photographs),
        new_classes=new_classes,
        notes=[*found.notes, *_roles(class_ids), *_empty(used, form)],
    )
    report.problems += found.problems
    report.unmatched += [images[number].name for number in matches.unmatched]
    report.ambiguous += [images[number].name for number in matches.ambiguous]
    names = {photograph.image_id: photograph.name for photograph in photographs}
    _write(report, images, matches, class_ids, names, collection.limits)
    return report


def _write(
    report: ImportReport,
    images: Sequence[AnnotatedImage | PngImage],
    matches: Matches,
    class_ids: Mapping[tuple[str, int | None], int | None],
    names: Mapping[str, str],
    limits: DecodeLimits,
) -> None:
    """Write all parts of the mask set and complete the report."""

    def read(photograph: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        number = matches.entries.get(photograph["image_id"])
        return _row(photograph, None if number is None else images[number], class_ids, limits)

    collection = report.mask_set.collection
    with ThreadPoolExecutor(THREADS) as pool:
        for part in collection.part_names():
            photographs = collection.read_part(part, ["image_id", "height", "width", "error"]).to_pylist()
            rows = list(pool.map(read, photographs))
            report.mask_set.write_part(part, mask_table(row for row, _ in rows))
            for photograph, (row, problems) in zip(photographs, rows, strict=True):
                report.masks += "mask" in row
                name = names.get(photograph["image_id"], "")
                report.problems += [f"{name}: {problem}" for problem in problems]
                if "mask" not in row and not problems and not photograph["error"]:
                    report.without_mask.append(name)


def _row(
    photograph: Mapping[str, Any],
    image: AnnotatedImage | PngImage | None,
    class_ids: Mapping[tuple[str, int | None], int | None],
    limits: DecodeLimits,
) -> tuple[dict[str, Any], list[str]]:
    """Return the mask row of a photograph and the problems of its objects."""
    image_id, size = photograph["image_id"], (photograph["height"], photograph["width"])
    if photograph["error"]:
        return mask_row(image_id, None, error="no-image: the photograph cannot be used"), []
    if image is None:
        return mask_row(image_id, None, error="not-in-import: the files have no mask for it"), []
    try:
        if isinstance(image, PngImage):
            mask, ids = image.read(size, limits)
            return mask_row(image_id, mask, ids), []
        if image.error:
            return mask_row(image_id, None, error=f"bad-import: {image.error}"), [image.error]
        if image.skipped:
            return mask_row(image_id, None, error=f"not-in-import: {image.skipped}"), []
        mask, ids, problems = paint(image, size, class_ids)
    except (DecodeError, OSError) as error:
        return mask_row(image_id, None, error=f"bad-import: {error}"), [str(error)]
    if problems and not ids and not (mask == IGNORE).any():
        return mask_row(image_id, None, error=f"bad-import: {problems[0]}"), problems
    return mask_row(image_id, mask, ids), problems


def _roles(class_ids: Mapping[Label, int | None]) -> list[str]:
    """Say which labels are no classes, that of our own exports aside."""
    ids: dict[Role, int | None] = {"background": BACKGROUND, "void": None}
    labels = {role: {label for (label, _), class_id in class_ids.items() if class_id == ids[role]} for role in ids}
    return role_notes("labels", {role: [*map(repr, sorted(labels[role] - {IGNORE_LABEL}))] for role in ids})


def _empty(images: Sequence[AnnotatedImage | PngImage], form: Form) -> list[str]:
    """Say how many photographs have no object in a file of another program, which may list what nobody annotated."""
    drawn = [image for image in images if isinstance(image, AnnotatedImage) and image.image_id is None]
    count = sum(not (image.shapes or image.problems or image.error) for image in drawn)
    if form == "labelstudio" or not count:  # it tells what nobody annotated
        return []
    return [f"{count} of {len(images)} photographs have no object in the file, so their masks are all background"]


def _nothing_matches(
    source: str, entries: Sequence[tuple[str | None, str]], photographs: Sequence[Photograph], *, twice: bool
) -> str:
    inside, outside = _some([name for _, name in entries]), _some([photograph.name for photograph in photographs])
    remedy = "name every photograph once" if twice else "give the collection that the masks were exported from"
    return (
        f"none of the {len(entries)} masks in {source} fits {'one photograph alone' if twice else 'a photograph'}: the "
        f"files have {inside or 'no names'}, the collection has {outside or 'no photographs'}; {remedy}"
    )


def _some(names: Sequence[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
