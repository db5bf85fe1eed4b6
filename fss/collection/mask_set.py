"""A mask set: named masks of a collection, aligned with its parts row by row."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fss.collection import mask_set_files, part_io
from fss.collection.acceptance_file import (
    Acceptance,
    acceptance_table,
    open_acceptance_file,
    write_acceptance_file,
)
from fss.collection.manifest import PartFolder
from fss.collection.mask_set_files import OLD_SET_NAME, SET_NAME, delete_files, is_derived, list_files
from fss.collection.schema import MASK_SCHEMA
from fss.core import storage
from fss.core.config import config_hash as hash_values

if TYPE_CHECKING:
    from fss.collection.collection import Collection

TRUTH = "truth"  # name of the mask set with the ground truth


MASK_SET_KEYS = ("name", "config_hash", "provenance", "acceptances")
"""Keys of the JSON file of a mask set."""


def check_same_images(found: Sequence[str], expected: Sequence[str], mask_set: str, part: str) -> None:
    """Check that rows of a mask part belong to the images of the same rows.

    Args:
        found: image ids of the masks.
        expected: ids of the images.
        mask_set: name of the mask set.
        part: name of the part.

    Raises:
        ValueError: they differ.
    """
    if found != expected:
        first = next((pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]), None)
        detail = f"image {first[0]} stands beside {first[1]}" if first else f"{len(found)} rows for {len(expected)}"
        raise ValueError(
            f"{part} of the mask set {mask_set!r} does not hold the masks of its images ({detail}): a part was "
            "replaced. Delete this part of the mask set, and run the job that makes the masks again"
        )


class MaskSet:
    """One mask set; use ``Collection.mask_set`` or ``Collection.create_mask_set``."""

    def __init__(self, collection: "Collection", name: str, metadata: dict[str, Any]):
        self.collection = collection
        self.name = name
        self.metadata = metadata

    @classmethod
    def open(cls, collection: "Collection", name: str) -> "MaskSet":
        """Open the set ``name``.

        Raises:
            ValueError: there is no such set, or its JSON file is damaged.
        """
        part_io.check_name(name, "the mask set")
        uri = mask_set_files.set_file(collection.uri, name)
        if uri is None:
            names = ", ".join(collection.mask_set_names()) or "none"
            raise ValueError(f"{collection.uri} has no mask set {name!r}; it has: {names}")
        metadata = part_io.read_sealed_json(uri)
        if not isinstance(metadata.get("config_hash"), str) or not isinstance(metadata.get("provenance"), dict):
            raise ValueError(f"{uri} is damaged: it must contain the text 'config_hash' and the object 'provenance'")
        return cls(collection, name, metadata)

    @classmethod
    def create(
        cls, collection: "Collection", name: str, *, config_hash: str, provenance: Mapping[str, Any], overwrite: bool
    ) -> "MaskSet":
        """Create or resume the set ``name``; see ``Collection.create_mask_set``."""
        part_io.check_name(name, "the mask set")
        before: dict[str, Any] | None = None
        if mask_set_files.set_file(collection.uri, name):
            existing = cls.open(collection, name)
            if existing.config_hash == config_hash and not overwrite:
                mask_set_files.move_metadata(collection.uri, name)
                return existing
            if not overwrite:
                raise ValueError(
                    f"the mask set {name!r} of {collection.uri} was made with configuration {existing.config_hash}, "
                    f"not {config_hash}; use --overwrite to make it again, or another mask set name"
                )
            mask_set_files.move_metadata(collection.uri, name)
            before = existing.metadata
        created = cls(collection, name, {"name": name, "config_hash": config_hash, "provenance": dict(provenance)})
        created._clear()  # a deletion that was killed leaves parts behind
        created.write_metadata(before)
        return created

    def write_metadata(self, before: dict[str, Any] | None = None) -> None:
        """Write the JSON file of the set.

        Args:
            before: its content as it was read; None if there was no file.

        Raises:
            ValueError: another process has written it since.
        """

        def write(current: dict[str, Any] | None) -> dict[str, Any]:
            if current is not None and current["config_hash"] == self.config_hash and before is None:
                return current  # another process has just begun to make the same masks
            if current != before:
                raise ValueError(
                    f"another process has just made the mask set {self.name!r} of {self.collection.uri}; wait for it, "
                    "or choose another mask set name"
                )
            return self.metadata

        self.metadata = part_io.update_sealed_json(storage.join(self.metadata_uri, SET_NAME), write)

    @property
    def uri(self) -> str:
        """URI of the folder of the parts."""
        return mask_set_files.parts_uri(self.collection.uri, self.name)

    @property
    def metadata_uri(self) -> str:
        """URI of the folder of acceptances, reports and other files of the set."""
        return mask_set_files.metadata_uri(self.collection.uri, self.name)

    @property
    def config_hash(self) -> str:
        """Hash of the configuration that produces the masks."""
        return str(self.metadata["config_hash"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Origin of the masks, such as method, model version and run id."""
        return dict(self.metadata["provenance"])

    @property
    def parts(self) -> PartFolder:
        """The folder of the parts, whose manifest gives their small columns."""
        manifest, fragments = (storage.join(self.metadata_uri, name) for name in ("manifest", "fragments"))
        return PartFolder(
            uri=self.uri, manifest_uri=manifest, fragments_uri=fragments, schema=MASK_SCHEMA, hash_changed=True
        )

    def contents(self) -> str:
        """Return 16 hex digits over the files of the masks and of their images.

        Unlike the configuration hash, it changes when a part is made again with other masks.
        """
        return hash_values([self.collection.parts.contents(), self.parts.contents()])

    def finished_parts(self) -> set[str]:
        """Return the names of the finished parts (one listing)."""
        return set(part_io.list_parts(self.uri))

    def ordered_parts(self) -> list[str]:
        """Return the names of the finished parts in the order of the collection.

        Raises:
            ValueError: files of parts are gone.
        """
        self.parts.check_complete()
        finished = self.finished_parts()
        return [name for name in self.collection.part_names() if name in finished]

    def require_parts(self, parts: Sequence[str]) -> None:
        """Check that the set has masks for all ``parts``.

        Raises:
            ValueError: a part has no masks yet.
        """
        if missing := sorted(set(parts) - self.finished_parts()):
            raise ValueError(
                f"mask set {self.name!r} lacks {len(missing)} of {len(parts)} parts ({missing[0]}, ...); "
                "run the job that makes it again; it resumes where it stopped"
            )

    def read_part(
        self, part: str, columns: Sequence[str] | None = None, *, rows: part_io.Rows | None = None
    ) -> pa.Table:
        """Read a mask part, or some columns and rows of it in the given order; only their row groups are read.

        The rows of a mask part belong to those of the image part, so the image ids of both are compared.

        Raises:
            ValueError: the part is missing, damaged or has another schema, or its masks are those of other images.
        """
        names = list(MASK_SCHEMA.names if columns is None else columns)
        table = part_io.read(self.uri, part, MASK_SCHEMA, [*dict.fromkeys(["image_id", *names])], rows)
        found = table.column("image_id").to_pylist()
        if found != _select(self.collection.part_image_ids(part), rows):  # perhaps the image part was written again
            check_same_images(found, _select(self.collection.part_image_ids(part, fresh=True), rows), self.name, part)
        return table.select(names)

    def write_part(self, part: str, table: pa.Table) -> None:
        """Write a mask part atomically (see ``schema.mask_table``).

        Raises:
            ValueError: the rows differ from those of the image part.
        """
        images = self.collection.part_image_ids(part, fresh=True)
        if images != table.column("image_id").to_pylist():
            raise ValueError(
                f"{part} of mask set {self.name!r}: its {table.num_rows} rows are not the {len(images)} images of "
                "the image part in the same order; write one row per image, also for images with an error"
            )
        self.parts.write(part, table)

    def write_acceptance(self, name: str, rule: Mapping[str, Any], accepted: Iterable[str] | pa.Table) -> None:
        """Write an acceptance: the rule, and the ids of the images that a trainer may use.

        Args:
            name: name of the acceptance; an existing one is replaced.
            rule: settings of the rule.
            accepted: ids of the accepted images, or a table with ``ACCEPTANCE_SCHEMA``.
        """
        table = accepted if isinstance(accepted, pa.Table) else acceptance_table(accepted)
        write_acceptance_file(self.acceptance_uri(name), rule, table)
        self._record_acceptance(name)

    def recorded_acceptances(self) -> list[str]:
        """Return the names of the acceptances that were written; fss 0.2 recorded none."""
        return list(self.metadata.get("acceptances", []))

    def _record_acceptance(self, name: str) -> None:
        uri = storage.join(self.metadata_uri, SET_NAME)
        if name in self.recorded_acceptances() or not part_io.exists(uri):
            return

        def add(current: dict[str, Any] | None) -> dict[str, Any]:
            before = current or self.metadata
            return {**before, "acceptances": sorted({*before.get("acceptances", []), name})}

        self.metadata = part_io.update_sealed_json(uri, add)

    def read_acceptance(self, name: str) -> Acceptance:
        """Open an acceptance; its ids are read when they are first used.

        Raises:
            ValueError: there is no acceptance of that name.
        """
        uri = self.acceptance_uri(name)
        for file in (uri, storage.join(self.uri, f"acceptance-{name}.json")):
            if part_io.exists(file):
                return open_acceptance_file(file, name)
        names = ", ".join(self.acceptance_names()) or "none"
        raise ValueError(f"mask set {self.name!r} has no acceptance {name!r} ({uri}); it has: {names}")

    def acceptance_uri(self, name: str) -> str:
        """Return the URI of an acceptance.

        Raises:
            ValueError: the name is invalid.
        """
        part_io.check_name(name, "the acceptance")
        return storage.join(self.metadata_uri, "acceptances", f"{name}.parquet")

    def acceptance_names(self) -> list[str]:
        """Return the names of the acceptances, sorted."""
        files = storage.list_names(*storage.resolve(storage.join(self.metadata_uri, "acceptances")))
        names = {file.removesuffix(".parquet") for file in files if file.endswith(".parquet")}
        old = storage.list_names(*storage.resolve(self.uri)) if self._has_old_files() else []
        names |= {
            file.removeprefix("acceptance-").removesuffix(".json")
            for file in old
            if file.startswith("acceptance-") and file.endswith(".json")
        }
        return sorted(name for name in names if part_io.is_name(name))

    def _has_old_files(self) -> bool:
        return part_io.exists(storage.join(self.uri, OLD_SET_NAME))

    def _clear(self) -> None:
        """Delete parts, acceptances and reports; the metadata stays, so a crash leaves a set with the old hash."""
        for uri in (self.uri, self.metadata_uri):
            delete_files(uri, [name for name in list_files(uri) if is_derived(name)])


def _select(values: list[str], rows: part_io.Rows | None) -> list[str]:
    """Return the values of some rows of a part."""
    if rows is None or isinstance(rows, slice):
        return values[rows or slice(None)]
    return [values[row] for row in rows]
