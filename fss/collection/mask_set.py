"""A mask set: named masks of a collection, aligned with its parts row by row."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fss.collection import part_io
from fss.collection.schema import MASK_SCHEMA
from fss.core import storage
from fss.core.config import config_hash as hash_of

if TYPE_CHECKING:
    from fss.collection.collection import Collection

TRUTH = "truth"  # name of the mask set with the ground truth
DERIVED = ("acceptance-", "report-")  # prefixes of files that are derived from the masks and deleted with them


def parts_and_derived(names: Iterable[str]) -> list[str]:
    """Return the names that are parts or files derived from them."""
    return [name for name in names if name.endswith(".parquet") or name.startswith(DERIVED)]


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Masks of a set that a trainer may use, and the rule that selected them."""

    name: str
    """Name of the acceptance; the file is ``acceptance-<name>.json``."""
    rule: dict[str, Any]
    """Settings of the rule, such as scores and quantile."""
    accepted: frozenset[str]
    """Ids of the accepted images."""
    hash: str
    """Hash of rule and ids, 16 hex digits."""


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
            ValueError: there is no such set.
        """
        part_io.check_name(name, "the mask set")
        uri = storage.join(collection.uri, "masks", name, "_set.json")
        if not part_io.exists(uri):
            names = ", ".join(collection.mask_set_names()) or "none"
            raise ValueError(f"{collection.uri} has no mask set {name!r}; it has: {names}")
        return cls(collection, name, part_io.read_json(uri))

    @classmethod
    def create(
        cls, collection: "Collection", name: str, *, config_hash: str, provenance: Mapping[str, Any], overwrite: bool
    ) -> "MaskSet":
        """Create or resume the set ``name``; see ``Collection.create_mask_set``."""
        part_io.check_name(name, "the mask set")
        folder = storage.join(collection.uri, "masks", name)
        if part_io.exists(storage.join(folder, "_set.json")):
            existing = cls.open(collection, name)
            if existing.config_hash == config_hash and not overwrite:
                return existing
            if not overwrite:
                raise ValueError(
                    f"the mask set {name!r} of {collection.uri} was made with configuration {existing.config_hash}, "
                    f"not {config_hash}; use --overwrite to make it again, or another mask set name"
                )
            existing._clear()
        metadata = {"name": name, "config_hash": config_hash, "provenance": dict(provenance)}
        part_io.write_json(storage.join(folder, "_set.json"), metadata)
        return cls(collection, name, metadata)

    @property
    def uri(self) -> str:
        """URI of the folder of the set."""
        return storage.join(self.collection.uri, "masks", self.name)

    @property
    def config_hash(self) -> str:
        """Hash of the configuration that produces the masks."""
        return str(self.metadata["config_hash"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Origin of the masks, such as method, model version and run id."""
        return dict(self.metadata["provenance"])

    def finished_parts(self) -> set[str]:
        """Return the names of the finished parts (one listing)."""
        return set(part_io.list_parts(self.uri))

    def ordered_parts(self) -> list[str]:
        """Return the names of the finished parts in the order of the collection."""
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

        Raises:
            ValueError: the part is missing, damaged or has another schema.
        """
        return part_io.read(self.uri, part, MASK_SCHEMA, columns, rows)

    def write_part(self, part: str, table: pa.Table) -> None:
        """Write a mask part atomically (see ``schema.mask_table``).

        Raises:
            ValueError: the rows differ from those of the image part.
        """
        images = self.collection.read_part(part, ["image_id"])
        if images.column("image_id").to_pylist() != table.column("image_id").to_pylist():
            raise ValueError(
                f"{part} of mask set {self.name!r}: its {table.num_rows} rows are not the {images.num_rows} images of "
                "the image part in the same order; write one row per image, also for images with an error"
            )
        part_io.write(self.uri, part, MASK_SCHEMA, table)

    def write_acceptance(self, name: str, rule: Mapping[str, Any], accepted: Sequence[str] | frozenset[str]) -> None:
        """Write the ids of the images that a trainer may use, and the rule that selected them."""
        part_io.check_name(name, "the acceptance")
        ids = sorted(accepted)
        content = {"name": name, "rule": dict(rule), "hash": hash_of(dict(rule), ids), "accepted": ids}
        part_io.write_json(storage.join(self.uri, f"acceptance-{name}.json"), content)

    def read_acceptance(self, name: str) -> Acceptance:
        """Read an acceptance.

        Raises:
            ValueError: there is no acceptance of that name.
        """
        part_io.check_name(name, "the acceptance")
        uri = storage.join(self.uri, f"acceptance-{name}.json")
        if not part_io.exists(uri):
            names = ", ".join(self.acceptance_names()) or "none"
            raise ValueError(f"mask set {self.name!r} has no acceptance {name!r} ({uri}); it has: {names}")
        content = part_io.read_json(uri)
        return Acceptance(
            name=name, rule=content["rule"], accepted=frozenset(content["accepted"]), hash=content["hash"]
        )

    def acceptance_names(self) -> list[str]:
        """Return the names of the acceptances, sorted."""
        fs, path = storage.resolve(self.uri)
        names = [
            name.removeprefix("acceptance-").removesuffix(".json")
            for name in storage.list_names(fs, path)
            if name.startswith("acceptance-") and name.endswith(".json")
        ]
        return [name for name in names if part_io.is_name(name)]

    def _clear(self) -> None:
        """Delete parts, acceptances and reports; the metadata stays, so a crash leaves a set with the old hash."""
        fs, path = storage.resolve(self.uri)
        for name in parts_and_derived(storage.list_names(fs, path)):
            part_io.delete(storage.join(self.uri, name))
