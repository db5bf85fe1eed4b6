"""A mask set: masks of a collection under a name, aligned with its parts row for row."""

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

TRUTH = "truth"  # the mask set of a collection's ground truth
DERIVED = ("acceptance-", "report-")  # files that are made from the masks and go with them


def parts_and_derived(names: Iterable[str]) -> list[str]:
    """Of the files in a folder of parts, the parts and what is made from them."""
    return [name for name in names if name.endswith(".parquet") or name.startswith(DERIVED)]


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Which masks of a set a trainer may use, and by what rule."""

    name: str
    """Name of the rule; the file is ``acceptance-<name>.json``."""
    rule: dict[str, Any]
    """Scores, quantile or threshold: whatever made the choice."""
    accepted: frozenset[str]
    """Ids of the accepted images."""
    hash: str
    """16 hex digits over rule and ids."""


class MaskSet:
    """One mask set; get it from ``Collection.mask_set`` or ``Collection.create_mask_set``."""

    def __init__(self, collection: "Collection", name: str, record: dict[str, Any]):
        self.collection = collection
        self.name = name
        self.metadata = record

    @classmethod
    def open(cls, collection: "Collection", name: str) -> "MaskSet":
        """Open the set ``name``; ValueError where there is none."""
        part_io.check_name(name, "the mask set")
        record = storage.join(collection.uri, "masks", name, "_set.json")
        if not part_io.exists(record):
            names = ", ".join(collection.mask_set_names()) or "none"
            raise ValueError(f"{collection.uri} has no mask set {name!r}; it has: {names}")
        return cls(collection, name, part_io.read_json(record))

    @classmethod
    def create(
        cls, collection: "Collection", name: str, *, config_hash: str, provenance: Mapping[str, Any], overwrite: bool
    ) -> "MaskSet":
        """Start or resume the set ``name``; see ``Collection.create_mask_set``."""
        part_io.check_name(name, "the mask set")
        folder = storage.join(collection.uri, "masks", name)
        if part_io.exists(storage.join(folder, "_set.json")):
            found = cls.open(collection, name)
            if found.config_hash == config_hash and not overwrite:
                return found
            if not overwrite:
                raise ValueError(
                    f"the mask set {name!r} of {collection.uri} was made with configuration {found.config_hash}, not "
                    f"{config_hash}; give --overwrite to make it again, or another mask set name"
                )
            found._clear()
        record = {"name": name, "config_hash": config_hash, "provenance": dict(provenance)}
        part_io.write_json(storage.join(folder, "_set.json"), record)
        return cls(collection, name, record)

    @property
    def uri(self) -> str:
        """Folder of the set."""
        return storage.join(self.collection.uri, "masks", self.name)

    @property
    def config_hash(self) -> str:
        """Hash of the configuration that makes the masks."""
        return str(self.metadata["config_hash"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the masks come from."""
        return dict(self.metadata["provenance"])

    def finished_parts(self) -> set[str]:
        """Return the names of the parts that are written (one listing)."""
        return set(part_io.list_parts(self.uri))

    def read_part(self, part: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a mask part, or some columns of it; ValueError where it is missing or damaged."""
        return part_io.read(self.uri, part, MASK_SCHEMA, columns)

    def write_part(self, part: str, table: pa.Table) -> None:
        """Write a mask part atomically (see ``schema.mask_table``).

        Raises:
            ValueError: its rows are not those of the image part, in the same order.
        """
        images = self.collection.read_part(part, ["image_id"])
        if images.column("image_id").to_pylist() != table.column("image_id").to_pylist():
            raise ValueError(
                f"{part} of mask set {self.name!r}: its {table.num_rows} rows are not the {images.num_rows} images of "
                "the image part in their order; keep one row per image, also for those with an error"
            )
        part_io.write(self.uri, part, MASK_SCHEMA, table)

    def write_acceptance(self, name: str, rule: Mapping[str, Any], accepted: Sequence[str] | frozenset[str]) -> None:
        """Write which images a trainer may use, and the rule that chose them."""
        part_io.check_name(name, "the acceptance")
        ids = sorted(accepted)
        record = {"name": name, "rule": dict(rule), "hash": hash_of(dict(rule), ids), "accepted": ids}
        part_io.write_json(storage.join(self.uri, f"acceptance-{name}.json"), record)

    def read_acceptance(self, name: str) -> Acceptance:
        """Read an acceptance; ValueError where there is none of that name."""
        part_io.check_name(name, "the acceptance")
        uri = storage.join(self.uri, f"acceptance-{name}.json")
        if not part_io.exists(uri):
            raise ValueError(f"mask set {self.name!r} has no acceptance {name!r}: there is no {uri}")
        record = part_io.read_json(uri)
        return Acceptance(name=name, rule=record["rule"], accepted=frozenset(record["accepted"]), hash=record["hash"])

    def acceptance_names(self) -> list[str]:
        """Return the names of the acceptances, sorted."""
        fs, path = storage.resolve(self.uri)
        found = [
            name.removeprefix("acceptance-").removesuffix(".json")
            for name in storage.list_names(fs, path)
            if name.startswith("acceptance-") and name.endswith(".json")
        ]
        return [name for name in found if part_io.is_name(name)]

    def _clear(self) -> None:
        """Delete parts, acceptances and reports; the record stays, so that a kill leaves a set of the old hash."""
        fs, path = storage.resolve(self.uri)
        for name in parts_and_derived(storage.list_names(fs, path)):
            part_io.delete(storage.join(self.uri, name))
