"""Export a mask set to files that people edit, import edited files as a new mask set, rename a set, or delete it.

    fss masks export photos saliency --output masks --acceptance default
    fss masks export labelled truth --output truth --form coco
    fss masks export photos saliency --output tasks --form labelstudio --image-root /data
    fss masks import photos --name corrected --from tasks/export.json
    fss masks rename photos saliency first-try
    fss masks delete photos first-try --yes

An import reads the forms that an export writes, also after CVAT or Label Studio wrote them, and gives equal pixels for
masks that nobody changed. Photographs are found by image id, then by name. Ignored pixels are the value 255 of PNGs
(128 with --values object), and objects with the label "ignore" elsewhere. Form cvat is for CVAT ("CVAT 1.1"), form
labelstudio for Label Studio. Form coco has run lengths with iscrowd 0: CVAT reads them, though its documentation names
only polygons and rectangles; Label Studio's converter reads only the polygons and boxes of COCO. Objects with iscrowd 1
are ignored, and a note says so, since CVAT exports single masks that way. Labels called background are no class, and
those called void are ignored.
"""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fss.core import storage
from fss.core.config import settings
from fss.core.exit_codes import PARTIAL, SUCCESS

if TYPE_CHECKING:
    from fss.collection import MaskSet
    from fss.collection.mask_import import ImportReport

_LISTED = 10  # names in the report of an import


@settings
class Export:
    """Write the masks as files that other programs read."""

    collection: tyro.conf.Positional[str]
    """The collection: local folder or s3:// URI."""
    mask_set: tyro.conf.Positional[str]
    """Name of the mask set."""
    output: str
    """Folder or s3:// URI for the files; or a file, such as coco.json, for the annotations of another form than png."""
    form: Literal["png", "coco", "labelstudio", "cvat"] = "png"
    """File format. png: a mask per photograph, masks.csv, which names the photographs, and classes.csv. coco:
    instances.json. labelstudio: tasks.json, and the labeling interface of the project. cvat: annotations.xml."""
    values: Literal["object", "class"] = "object"
    """Pixel values of PNGs. object: 255 on any class, 128 where ignored. class: the class id, 255 where ignored."""
    acceptance: str | None = None
    """Name of the acceptance whose masks to export. None: all masks."""
    image_root: str | None = None
    """Folder that the names of photographs are relative to, except for PNGs; for Label Studio its document root
    (LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT). None: the folder of the collection's source."""

    def run(self) -> int:
        """Export the masks and return the exit code."""
        from fss.cli._make_masks import print_table
        from fss.collection import Collection

        if self.form == "png" and self.image_root:
            raise ValueError("--image-root has no effect on PNGs, which image ids name; leave it out or give --form")
        masks = Collection.open(self.collection).mask_set(self.mask_set)
        accepted = masks.read_acceptance(self.acceptance).accepted if self.acceptance else None
        rows = self._pngs(masks, accepted) if self.form == "png" else self._annotations(masks, accepted)
        print_table(iter(rows))
        return SUCCESS

    def _target(self, default: str) -> tuple[str, str]:
        """Return the folder and the name of the file with the annotations, which ``--output`` may name.

        Raises:
            ValueError: the name of the file has the ending of another form.
        """
        ending = default.rpartition(".")[2]
        if not self.output.endswith((".json", ".xml")):
            return self.output, default
        if not self.output.endswith(f".{ending}"):
            raise ValueError(
                f"--output {self.output}: the file of --form {self.form} ends with .{ending}; or give a folder"
            )
        folder, _, name = self.output.rpartition("/")
        return folder or ".", name

    def _pngs(self, masks: "MaskSet", accepted: frozenset[str] | None) -> list[tuple[str, str]]:
        from fss.cli._make_masks import check_folder, write
        from fss.collection.annotations.png import CLASSES, MASKS, PngTables, check_png_folder
        from fss.collection.mask_export import iterate_masks

        check_folder(self.output)
        check_png_folder(self.output)
        tables, count = PngTables(self.values), 0
        for exported in iterate_masks(masks, accepted):
            write(self.output, *tables.encode(exported))
            count += 1
        write(self.output, MASKS, tables.masks())
        write(self.output, CLASSES, tables.classes(masks.collection.classes))
        return [("exported", f"{count} masks as PNG, {MASKS} and {CLASSES}"), ("folder", self.output)]

    def _annotations(self, masks: "MaskSet", accepted: frozenset[str] | None) -> list[tuple[str, str]]:
        from fss.cli._make_masks import write
        from fss.collection.annotations.base import class_labels
        from fss.collection.annotations.coco import write_coco
        from fss.collection.annotations.cvat import write_cvat
        from fss.collection.annotations.label_studio import labeling_interface, write_label_studio
        from fss.collection.image_names import choose_image_root, find_image_root
        from fss.collection.mask_export import contents, iterate_masks

        default = {"coco": "instances.json", "cvat": "annotations.xml", "labelstudio": "tasks.json"}[self.form]
        folder, name = self._target(default)
        storage.check_file_writable(storage.join(folder, name))
        root = choose_image_root(self.image_root) if self.image_root else find_image_root(masks.collection)
        uris, class_ids = contents(masks, accepted)
        for uri in uris:
            root.relative(uri)  # all names are checked before the first mask is read
        labels = class_labels(class_ids, masks.collection.classes)
        exported, pieces = iterate_masks(masks, accepted), io.BytesIO()
        if self.form == "coco":
            images, objects = write_coco(exported, labels, root, pieces.write)
        elif self.form == "cvat":
            images, objects = write_cvat(exported, labels, root, pieces.write, name=masks.name)
        else:
            images, objects = write_label_studio(exported, labels, root, pieces.write, model_version=masks.name)
            write(folder, "labeling-interface.xml", labeling_interface(labels).encode())
        write(folder, name, pieces.getvalue())
        return [
            ("exported", f"{objects} annotations of {images} photographs"),
            ("file", storage.join(folder, name)),
            ("image root", f"{root.uri} (names are relative to it)"),
        ]


@settings
class Import:
    """Read edited masks back, as a new mask set of the collection that they were exported from."""

    collection: tyro.conf.Positional[str]
    """The collection: local folder or s3:// URI."""
    name: str
    """Name of the new mask set."""
    source: Annotated[str, tyro.conf.arg(name="from")]
    """File or folder to read, local or s3://. It must be unzipped."""
    form: Literal["auto", "png", "coco", "labelstudio", "cvat"] = "auto"
    """Form of the files, see export. auto: as their content shows."""
    values: Literal["auto", "object", "class", "saliency"] = "auto"
    """Pixel values of PNGs, see export. saliency: salient objects of any class, cut at half of white. auto: as
    masks.csv says."""
    overwrite: bool = False
    """Replace a mask set of that name that was made from other files."""

    def run(self) -> int:
        """Import the masks and return the exit code: 3 if some masks or photographs were left out."""
        from fss.cli._make_masks import print_table
        from fss.collection import Collection
        from fss.collection.mask_import import import_masks

        report = import_masks(
            Collection.open(self.collection),
            self.name,
            self.source,
            form=None if self.form == "auto" else self.form,
            values=None if self.values == "auto" else self.values,
            overwrite=self.overwrite,
        )
        print_table(_rows(report))
        return SUCCESS if report.is_complete else PARTIAL


def _rows(report: "ImportReport") -> Iterator[tuple[str, str]]:
    """Yield the lines about an import."""
    yield "imported", f"{report.masks} masks of {report.photographs} photographs, form {report.form}"
    yield "mask set", report.mask_set.uri
    if report.new_classes:
        yield "new classes", ", ".join(f"{name} ({class_id})" for class_id, name in report.new_classes.items())
    for note in report.notes:
        yield "note", note
    for title, names in (
        ("photographs without a mask in the files", report.without_mask),
        ("masks without a photograph", report.unmatched),
        ("masks that fit several photographs, or share one", report.ambiguous),
        ("left out", report.problems),
    ):
        if names:
            lines = [*names[:_LISTED], *(["..."] if len(names) > _LISTED else [])]
            yield f"{len(names)} {title}", "\n".join(lines).encode(errors="backslashreplace").decode()


@settings
class Rename:
    """Give a mask set another name."""

    collection: tyro.conf.Positional[str]
    """The collection: local folder or s3:// URI."""
    mask_set: tyro.conf.Positional[str]
    """Name of the mask set."""
    name: tyro.conf.Positional[str]
    """New name of the mask set."""

    def run(self) -> int:
        """Rename the mask set and return the exit code."""
        from fss.cli._make_masks import print_table
        from fss.collection import Collection, mask_admin

        renamed = mask_admin.rename_mask_set(Collection.open(self.collection).mask_set(self.mask_set), self.name)
        print_table(iter([("renamed", f"{self.mask_set} is now {renamed.name}"), ("mask set", renamed.uri)]))
        return SUCCESS


@settings
class Delete:
    """Delete a mask set with its acceptances and reports."""

    collection: tyro.conf.Positional[str]
    """The collection: local folder or s3:// URI."""
    mask_set: tyro.conf.Positional[str]
    """Name of the mask set."""
    yes: bool = False
    """Delete it; without this flag, nothing is deleted."""

    def run(self) -> int:
        """Delete the mask set and return the exit code."""
        from fss.cli._make_masks import print_table
        from fss.collection import Collection, mask_admin

        masks = Collection.open(self.collection).mask_set(self.mask_set)
        if not self.yes:
            raise ValueError(
                f"this would delete {len(masks.finished_parts())} parts of masks in {masks.uri}, with acceptances and "
                "reports; give --yes to do it"
            )
        print_table(iter([("deleted", f"{mask_admin.delete_mask_set(masks)} files of {masks.uri}")]))
        return SUCCESS


Config = (
    Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Rename, tyro.conf.subcommand("rename")]
    | Annotated[Delete, tyro.conf.subcommand("delete")]
)


def run(config: Export | Import | Rename | Delete) -> int:
    """Run the subcommand and return the exit code.

    Raises:
        ValueError: the collection, mask set, acceptance or file does not exist, or the new name is taken.
    """
    return config.run()
