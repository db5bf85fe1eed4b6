"""The collection: images in parts, and mask sets aligned with them.

    collection.json                  name, sources, part size, classes, class splits
    images/part-00000.parquet        see schema.IMAGE_SCHEMA
    masks/<set>/part-00000.parquet   see schema.MASK_SCHEMA; same rows in the same order
    manifest/, fragments/            small columns of the images (see manifest)
    hashes/part-00000.parquet        perceptual hashes of the images (see hashes)
    metadata/<set>/                  provenance, acceptances and reports (see mask_set_files)

A collection grows by new parts and never reorders existing ones. Every write is atomic.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from cachetools import LRUCache

from fss.collection import mask_set_files, part_io
from fss.collection.collection_file import (
    FORMAT,
    SourcesChangedError,
    collection_exists,
    create_collection_file,
    read_collection_file,
    update_collection_file,
)
from fss.collection.manifest import PartFolder
from fss.collection.mask_set import MaskSet
from fss.collection.schema import IMAGE_SCHEMA
from fss.core import storage
from fss.images.limits import DecodeLimits

_IDS: LRUCache[tuple[str, str], list[str]] = LRUCache(128)
_IDS_LOCK = threading.Lock()


class Collection:
    """Images plus mask sets, on a local disk or an object store; use :meth:`create` or :meth:`open`."""

    def __init__(self, uri: str, metadata: dict[str, Any]):
        self.uri = uri
        self.metadata = metadata

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
        """Create an empty collection.

        Args:
            uri: local folder or ``s3://bucket/folder``.
            name: display name.
            source: origin of the images.
            part_size: largest number of images in a part.
            classes: class names by id.
            class_splits: class ids by split, such as ``{"train": [...], "test": [...]}``.
            limits: limits on images; readers decode with the same.
            exist_ok: open an existing collection instead of raising an error.

        Raises:
            ValueError: the collection exists, or a class split has an unknown class.
        """
        uri = storage.absolute_uri(uri)
        if collection_exists(uri):
            if exist_ok:
                return cls.open(uri)
            raise ValueError(f"there is already a collection at {uri}; open it, or choose another path")
        if part_size < 1:
            raise ValueError(f"part_size must be at least 1, got {part_size}")
        classes, class_splits = dict(classes or {}), dict(class_splits or {})
        unknown = sorted({c for ids in class_splits.values() for c in ids} - set(classes))
        if unknown:
            raise ValueError(f"class_splits has the class ids {unknown[:5]}, which `classes` lacks; add them there")
        metadata = {
            "format": FORMAT,
            "name": name,
            "part_size": part_size,
            "classes": [{"id": int(key), "name": value} for key, value in sorted(classes.items())],
            "class_splits": {key: sorted(int(c) for c in ids) for key, ids in class_splits.items()},
            "limits": (limits or DecodeLimits()).as_dict(),
            "sources": [dict(source) if isinstance(source, Mapping) else {"uri": source}],
        }
        create_collection_file(uri, metadata)
        return cls(uri, metadata)

    @classmethod
    def open(cls, uri: str) -> "Collection":
        """Open the collection at ``uri``.

        Raises:
            ValueError: there is no collection, another version wrote it, or its collection.json is damaged.
        """
        uri = storage.absolute_uri(uri)
        if not collection_exists(uri):
            raise ValueError(f"there is no collection at {uri} (no collection.json); ingest photographs into it first")
        metadata = read_collection_file(uri)
        return cls(uri, metadata)

    @property
    def name(self) -> str:
        """Name of the collection."""
        return str(self.metadata["name"])

    @property
    def part_size(self) -> int:
        """Largest number of images in a part."""
        return int(self.metadata["part_size"])

    @property
    def classes(self) -> dict[int, str]:
        """Class names by id."""
        return {entry["id"]: entry["name"] for entry in self.metadata["classes"]}

    @property
    def class_splits(self) -> dict[str, list[int]]:
        """Class ids by split."""
        return {key: list(ids) for key, ids in self.metadata["class_splits"].items()}

    @property
    def limits(self) -> DecodeLimits:
        """Limits that the images were accepted under."""
        return DecodeLimits(**self.metadata["limits"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last ingest noticed: one sentence each."""
        return tuple(self.metadata["sources"][-1].get("notes", ()))

    @property
    def painted(self) -> bool:
        """Whether all pictures are those of the painted sample."""
        sources = [source.get("source") for source in self.metadata["sources"]]
        return bool(sources) and all(isinstance(each, dict) and each.get("kind") == "sample" for each in sources)

    @property
    def ignored(self) -> dict[str, int]:
        """Number of files that the last ingest left out, by reason."""
        return dict(self.metadata["sources"][-1].get("ignored", {}))

    def add_source(self, source: Mapping[str, Any], *, part_size: int) -> None:
        """Record another source, or a later state of one, for the parts that follow; they hold up to ``part_size``.

        Raises:
            SourcesChangedError: another process has added a source since this collection was opened.
        """
        expected = len(self.metadata["sources"])

        def add(current: dict[str, Any]) -> dict[str, Any]:
            sources = current["sources"]
            if len(sources) != expected:
                raise SourcesChangedError(f"another process has added a source to {self.uri}")
            size = max(current["part_size"], part_size)
            return {**current, "sources": [*sources, dict(source)], "part_size": size}

        self._update(add)

    def record_ingest(self, index: int, *, notes: Sequence[str], ignored: Mapping[str, int]) -> None:
        """Record what the ingest of the source of this index noticed and left out."""

        def record(current: dict[str, Any]) -> dict[str, Any]:
            sources = list(current["sources"])
            sources[index] = {**sources[index], "notes": list(notes), "ignored": dict(ignored)}
            return {**current, "sources": sources}

        self._update(record)

    def record_format(self, version: int) -> None:
        """Record the format of the parts."""
        if self.metadata["format"] != version:
            self._update(lambda current: {**current, "format": version})

    def add_classes(self, classes: Mapping[int, str]) -> None:
        """Add class names; a class that already has a name keeps it."""

        def add(current: dict[str, Any]) -> dict[str, Any]:
            merged = {**dict(classes), **{entry["id"]: entry["name"] for entry in current["classes"]}}
            return {**current, "classes": [{"id": key, "name": value} for key, value in sorted(merged.items())]}

        self._update(add)

    def _update(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.metadata = update_collection_file(self.uri, change)

    @property
    def parts(self) -> PartFolder:
        """The folder of the image parts, whose manifest gives their small columns."""
        images, manifest, fragments = (storage.join(self.uri, name) for name in ("images", "manifest", "fragments"))
        return PartFolder(uri=images, manifest_uri=manifest, fragments_uri=fragments, schema=IMAGE_SCHEMA)

    def part_names(self) -> list[str]:
        """Return the names of the image parts, sorted (one listing)."""
        return part_io.list_parts(storage.join(self.uri, "images"))

    def first_parts(self, limit: int | None = None) -> list[str]:
        """Return the names of the first parts that together hold ``limit`` images; None returns all parts.

        Raises:
            ValueError: the collection has no parts.
        """
        names = self.part_names()
        if not names:
            raise ValueError(f"the collection {self.uri} holds no images yet; ingest photographs into it first")
        if limit is None:
            return names
        rows = 0
        for number, (_, table) in enumerate(self.parts.tables(names, ["error"]), start=1):
            rows += table.num_rows
            if rows >= limit:
                return names[:number]
        return names

    @property
    def block_rows(self) -> int | None:
        """Rows of a part that a training shuffles and reads together: whole row groups, or None for whole parts."""
        return 2 * part_io.ROW_GROUP if self.metadata["format"] > 1 else None

    def read_part(
        self, part: str, columns: Sequence[str] | None = None, *, rows: part_io.Rows | None = None
    ) -> pa.Table:
        """Read an image part, or some columns and rows of it in the given order; only their row groups are read.

        Raises:
            ValueError: the part is missing, damaged or has another schema.
        """
        return part_io.read(storage.join(self.uri, "images"), part, IMAGE_SCHEMA, columns, rows)

    def write_part(self, part: str, table: pa.Table) -> None:
        """Write an image part atomically (see ``schema.image_table``)."""
        self.parts.write(part, table)

    def mask_set_names(self) -> list[str]:
        """Return the names of the mask sets, sorted."""
        return mask_set_files.set_names(self.uri)

    def mask_set(self, name: str) -> MaskSet:
        """Open a mask set.

        Raises:
            ValueError: there is no mask set of that name.
        """
        return MaskSet.open(self, name)

    def create_mask_set(
        self, name: str, *, config_hash: str, provenance: Mapping[str, Any], overwrite: bool = False
    ) -> MaskSet:
        """Create a mask set, or resume an existing one with the same configuration hash.

        Args:
            name: lower case letters, digits, dots, dashes and underscores.
            config_hash: hash of the configuration that produces the masks.
            provenance: origin of the masks, such as method, model version and run id.
            overwrite: delete the parts of an existing set and start again.

        Raises:
            ValueError: the set exists with another configuration hash and ``overwrite`` is off.
        """
        return MaskSet.create(self, name, config_hash=config_hash, provenance=provenance, overwrite=overwrite)

    def part_image_ids(self, part: str, *, fresh: bool = False) -> list[str]:
        """Return the ids of the images of a part, in row order; they are kept for the last parts of this process.

        Args:
            part: name of the part.
            fresh: read them again, in case the part was written again.

        Raises:
            ValueError: the part is missing, damaged or has another schema.
        """
        key = self.uri, part
        with _IDS_LOCK:
            ids = None if fresh else _IDS.get(key)
        if ids is None:
            ids = self.read_part(part, ["image_id"]).column("image_id").to_pylist()
            with _IDS_LOCK:
                _IDS[key] = ids
        return ids

    def image_ids(self) -> dict[str, list[str]]:
        """Return the image ids of every part, in row order."""
        tables = self.parts.tables(self.part_names(), ["image_id"])
        return {part: table.column("image_id").to_pylist() for part, table in tables}

    def image_bytes(self) -> int:
        """Return the total size of the image parts in bytes."""
        fs, path = storage.resolve(storage.join(self.uri, "images"))
        return sum(info.size or 0 for info in fs.get_file_info([f"{path}/{p}.parquet" for p in self.part_names()]))

    def fingerprint(self) -> str:
        """Return a hash of part names and image ids, 16 hex digits; it does not depend on the storage location."""
        digest = hashlib.sha256()
        for part, table in self.parts.tables(self.part_names(), ["image_id"]):
            digest.update(f"{part}:{','.join(table.column('image_id').to_pylist())}\n".encode())
        return digest.hexdigest()[:16]

    def quarantine(self) -> pa.Table:
        """Return the unusable images: columns ``image_id``, ``uri``, ``error``."""
        columns = ["image_id", "uri", "error"]
        tables = [IMAGE_SCHEMA.empty_table().select(columns)]
        for _, table in self.parts.tables(self.part_names(), columns):
            if table.column("error").null_count < table.num_rows:
                tables.append(table.filter(pc.is_valid(table.column("error"))))
        return pa.concat_tables(tables)
