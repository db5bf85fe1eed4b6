"""The collection: photographs in parts, and mask sets aligned with them.

    collection.json                      name, sources, part size, classes, class splits
    images/part-00000.parquet            see schema.IMAGE_SCHEMA
    masks/<set>/part-00000.parquet       see schema.MASK_SCHEMA; same rows in the same order
    masks/<set>/_set.json                configuration hash and provenance
    masks/<set>/acceptance-<name>.json   which of its masks a trainer may use

A collection grows by new parts and never re-sorts old ones. Everything is written whole or not at all.
"""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fss.collection import part_io
from fss.collection.mask_set import MaskSet, parts_and_derived
from fss.collection.schema import IMAGE_SCHEMA
from fss.core import storage
from fss.images.limits import DecodeLimits

FORMAT = 1


class Collection:
    """Images plus mask sets, on a local disk or an object store. Get one from :meth:`create` or :meth:`open`."""

    def __init__(self, uri: str, info: dict[str, Any]):
        self.uri = uri
        self.metadata = info

    @classmethod
    def create(
        cls,
        uri: str,
        *,
        name: str,
        source: Mapping[str, Any] | str,
        part_size: int = 64,
        classes: Mapping[int, str] | None = None,
        class_splits: Mapping[str, Sequence[int]] | None = None,
        limits: DecodeLimits | None = None,
        exist_ok: bool = False,
    ) -> "Collection":
        """Start an empty collection.

        Args:
            uri: local folder or ``s3://bucket/folder``.
            name: for people.
            source: where the pictures come from.
            part_size: images in a part.
            classes: names of the classes by id.
            class_splits: class ids by split, such as ``{"train": [...], "test": [...]}``.
            limits: what a picture may be; readers decode with the same.
            exist_ok: open the collection that is there instead of refusing.

        Raises:
            ValueError: there is one already, or a class split names an unknown class.
        """
        uri = storage.absolute_uri(uri)
        if collection_exists(uri):
            if exist_ok:
                return cls.open(uri)
            raise ValueError(f"there is a collection at {uri} already; choose another place, or open this one")
        if part_size < 1:
            raise ValueError(f"part_size is 1 or more, got {part_size}")
        classes, class_splits = dict(classes or {}), dict(class_splits or {})
        unknown = sorted({c for ids in class_splits.values() for c in ids} - set(classes))
        if unknown:
            raise ValueError(f"class_splits names the class ids {unknown[:5]}, which `classes` does not have")
        info = {
            "format": FORMAT,
            "name": name,
            "part_size": part_size,
            "classes": [{"id": int(key), "name": value} for key, value in sorted(classes.items())],
            "class_splits": {key: sorted(int(c) for c in ids) for key, ids in class_splits.items()},
            "limits": (limits or DecodeLimits()).as_dict(),
            "sources": [dict(source) if isinstance(source, Mapping) else {"uri": source}],
        }
        collection = cls(uri, info)
        collection._save()
        return collection

    @classmethod
    def open(cls, uri: str) -> "Collection":
        """Open the collection at ``uri``.

        Raises:
            ValueError: there is none, or it was written by another version.
        """
        uri = storage.absolute_uri(uri)
        if not collection_exists(uri):
            raise ValueError(f"there is no collection at {uri} (no collection.json); ingest photographs into it first")
        info = part_io.read_json(storage.join(uri, "collection.json"))
        if info.get("format") != FORMAT:
            raise ValueError(f"the collection at {uri} has format {info.get('format')}; this version reads {FORMAT}")
        return cls(uri, info)

    @property
    def name(self) -> str:
        """Name of the collection."""
        return str(self.metadata["name"])

    @property
    def part_size(self) -> int:
        """Images in a full part."""
        return int(self.metadata["part_size"])

    @property
    def classes(self) -> dict[int, str]:
        """Names of the classes by id."""
        return {entry["id"]: entry["name"] for entry in self.metadata["classes"]}

    @property
    def class_splits(self) -> dict[str, list[int]]:
        """Class ids of each split."""
        return {key: list(ids) for key, ids in self.metadata["class_splits"].items()}

    @property
    def limits(self) -> DecodeLimits:
        """The limits that its pictures were accepted under."""
        return DecodeLimits(**self.metadata["limits"])

    def add_source(self, source: Mapping[str, Any]) -> None:
        """Record that the parts to come are from another source or a later state of one."""
        self.metadata = {**self.metadata, "sources": [*self.metadata["sources"], dict(source)]}
        self._save()

    def add_classes(self, classes: Mapping[int, str]) -> None:
        """Name classes that the collection did not know when it was made."""
        merged = {**dict(classes), **self.classes}
        self.metadata = {
            **self.metadata,
            "classes": [{"id": key, "name": value} for key, value in sorted(merged.items())],
        }
        self._save()

    def part_names(self) -> list[str]:
        """Return the names of the image parts, sorted (one listing)."""
        return part_io.list_parts(storage.join(self.uri, "images"))

    def read_part(self, part: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read an image part, or some columns of it.

        Raises:
            ValueError: the part is missing, damaged or of another schema.
        """
        return part_io.read(storage.join(self.uri, "images"), part, IMAGE_SCHEMA, columns)

    def write_part(self, part: str, table: pa.Table) -> None:
        """Write an image part atomically (see ``schema.image_table``)."""
        part_io.write(storage.join(self.uri, "images"), part, IMAGE_SCHEMA, table)

    def mask_set_names(self) -> list[str]:
        """Return the names of the mask sets, sorted."""
        fs, path = storage.resolve(storage.join(self.uri, "masks"))
        names = [name for name in storage.list_names(fs, path) if part_io.is_name(name)]
        return [name for name in names if part_io.exists(storage.join(self.uri, "masks", name, "_set.json"))]

    def mask_set(self, name: str) -> MaskSet:
        """Open a mask set.

        Raises:
            ValueError: there is none of that name.
        """
        return MaskSet.open(self, name)

    def create_mask_set(
        self, name: str, *, config_hash: str, provenance: Mapping[str, Any], overwrite: bool = False
    ) -> MaskSet:
        """Start a mask set, or resume the one that has the same configuration hash.

        Args:
            name: lower case letters, digits, dots, dashes, underscores.
            config_hash: of the configuration that makes the masks.
            provenance: method, model version, run id: whatever tells where the masks come from.
            overwrite: delete the parts of the set that is there and start again.

        Raises:
            ValueError: the set exists with another configuration hash and ``overwrite`` is off.
        """
        return MaskSet.create(self, name, config_hash=config_hash, provenance=provenance, overwrite=overwrite)

    def image_ids(self) -> dict[str, list[str]]:
        """Return the image ids of every part, in row order."""
        names = self.part_names()
        with ThreadPoolExecutor(8) as pool:
            tables = pool.map(lambda part: self.read_part(part, ["image_id"]), names)
            return {part: table.column("image_id").to_pylist() for part, table in zip(names, tables, strict=True)}

    def image_bytes(self) -> int:
        """Return the bytes that the image parts take."""
        fs, path = storage.resolve(storage.join(self.uri, "images"))
        return sum(info.size or 0 for info in fs.get_file_info([f"{path}/{p}.parquet" for p in self.part_names()]))

    def fingerprint(self) -> str:
        """Return 16 hex digits over part names and image ids: equal for equal contents, wherever they are kept."""
        digest = hashlib.sha256()
        for part, ids in self.image_ids().items():
            digest.update(f"{part}:{','.join(ids)}\n".encode())
        return digest.hexdigest()[:16]

    def quarantine(self) -> pa.Table:
        """Return the unusable images: columns ``image_id``, ``uri``, ``error``."""
        columns = ["image_id", "uri", "error"]
        tables = [IMAGE_SCHEMA.empty_table().select(columns)]
        for part in self.part_names():
            table = self.read_part(part, columns)
            tables.append(table.filter(pc.is_valid(table.column("error"))))
        return pa.concat_tables(tables)

    def _save(self) -> None:
        part_io.write_json(storage.join(self.uri, "collection.json"), self.metadata)


def collection_exists(uri: str) -> bool:
    """Tell whether there is a collection at ``uri``; ValueError where the object store does not answer."""
    storage.check_access(uri)
    return part_io.exists(storage.join(storage.absolute_uri(uri), "collection.json"))


def delete_collection(uri: str) -> None:
    """Delete the collection at ``uri`` with its mask sets; files that are not of a collection stay.

    ``collection.json`` goes last, so that a killed deletion still shows as a collection and can be repeated.
    """
    collection = Collection.open(uri)
    folders = ["images", "listings", *(f"masks/{name}" for name in collection.mask_set_names())]
    for folder in folders:
        fs, path = storage.resolve(storage.join(collection.uri, folder))
        names = storage.list_names(fs, path)
        for name in [*parts_and_derived(names), *(name for name in names if name == "_set.json")]:
            part_io.delete(storage.join(collection.uri, folder, name))
    part_io.delete(storage.join(collection.uri, "collection.json"))
