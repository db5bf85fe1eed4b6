"""Export a mask set as PNGs or COCO JSON, rename it, or delete it.

fss masks export photos saliency --output masks --acceptance default
fss masks export labelled truth --output truth --form coco
fss masks rename photos saliency first-try
fss masks delete photos first-try --yes
"""

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fss.core.config import settings
from fss.core.exit_codes import SUCCESS

if TYPE_CHECKING:
    from fss.collection import MaskSet
    from fss.collection.mask_export import ExportedMask


@settings
class Export:
    """Write the masks as files that other programs read."""

    collection: tyro.conf.Positional[str]
    """The collection: local folder or s3:// URI."""
    mask_set: tyro.conf.Positional[str]
    """Name of the mask set."""
    output: str
    """Folder or s3:// URI for the files."""
    form: Literal["png", "coco"] = "png"
    """File format. png: a mask per photograph, and masks.csv, which names the photographs. coco: instances.json."""
    values: Literal["object", "class"] = "object"
    """Pixel values of PNGs. object: 255 on any class, 128 where ignored. class: the class id, 255 where ignored."""
    acceptance: str | None = None
    """Name of the acceptance whose masks to export. None: all masks."""

    def run(self) -> int:
        """Export the masks and return the exit code."""
        from fss.cli._make_masks import print_table
        from fss.collection import Collection
        from fss.collection.mask_export import iterate_masks

        masks = Collection.open(self.collection).mask_set(self.mask_set)
        accepted = masks.read_acceptance(self.acceptance).accepted if self.acceptance else None
        exported_masks = iterate_masks(masks, accepted)
        summary = self._pngs(exported_masks) if self.form == "png" else self._coco(exported_masks, masks)
        print_table(iter([("exported", summary), ("written to", self.output)]))
        return SUCCESS

    def _pngs(self, exported_masks: "Iterator[ExportedMask]") -> str:
        from fss.cli._make_masks import write
        from fss.collection.mask_export import encode_png

        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(["mask", "image_id", "photograph", "classes"])
        count = 0
        for exported in exported_masks:
            write(self.output, f"{exported.name}.png", encode_png(exported, self.values))
            table.writerow(
                [f"{exported.name}.png", exported.image_id, exported.uri, " ".join(map(str, exported.classes))]
            )
            count += 1
        write(self.output, "masks.csv", text.getvalue().encode())
        return f"{count} masks as PNG, and masks.csv"

    def _coco(self, exported_masks: "Iterator[ExportedMask]", masks: "MaskSet") -> str:
        from fss.cli._make_masks import write
        from fss.collection.mask_export import write_coco

        pieces = io.BytesIO()
        images, annotations = write_coco(exported_masks, masks.collection.classes, pieces.write)
        write(self.output, "instances.json", pieces.getvalue())
        return f"{annotations} annotations of {images} photographs in instances.json"


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
    | Annotated[Rename, tyro.conf.subcommand("rename")]
    | Annotated[Delete, tyro.conf.subcommand("delete")]
)


def run(config: Export | Rename | Delete) -> int:
    """Run the subcommand and return the exit code.

    Raises:
        ValueError: the collection, mask set or acceptance does not exist, or the new name is taken.
    """
    return config.run()
