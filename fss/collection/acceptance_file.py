"""The file of an acceptance: a Parquet table of images, whose metadata hold the rule and a hash.

Format 1 wrote JSON with the accepted ids.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fss.collection import part_io
from fss.collection.schema import check_table
from fss.collection.sealed_file import KEY, VALUE, is_intact, seal
from fss.core import storage
from fss.core.arrays import BoolArray
from fss.core.config import canonical_json
from fss.core.json_values import parse_object
from fss.core.printable import printable
from fss.core.retry import is_transient

ACCEPTANCE_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("accepted", pa.bool_(), nullable=False),
        pa.field("quality", pa.float32()),  # mean rank of the scores, 0 to 1; null where the rule did not rank the mask
    ]
)
_RULE = b"fss.acceptance"
_HASHED = 65_536  # ids that are hashed at a time


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Masks of a set that a trainer may use, and the rule that selected them."""

    name: str
    """Name of the acceptance."""
    rule: dict[str, Any]
    """Settings of the rule, such as scores and quantile."""
    hash: str
    """Hash of rule and ids, 16 hex digits."""
    uri: str
    """URI of the file."""

    @cached_property
    def accepted(self) -> frozenset[str]:
        """Ids of the accepted images, read at the first use."""
        if self.uri.endswith(".json"):
            return frozenset(part_io.read_json(self.uri)["accepted"])
        with self.open() as file:
            table = file.read(columns=["image_id", "accepted"])
        return frozenset(table.filter(table.column("accepted")).column("image_id").to_pylist())

    def contains(self, image_ids: pa.ChunkedArray) -> BoolArray:
        """Return which of N different images are accepted, bool [N], with memory for one row group of the file."""
        if self.uri.endswith(".json"):
            return np.array([name in self.accepted for name in image_ids.to_pylist()], bool)
        accepted, ids = np.zeros(len(image_ids), bool), image_ids.combine_chunks()
        with self.open() as file:
            for batch in file.iter_batches(columns=["image_id", "accepted"]):
                rows = pc.index_in(batch.column("image_id").filter(batch.column("accepted")), value_set=ids)
                accepted[rows.drop_null().to_numpy()] = True
        return accepted

    @contextmanager
    def open(self) -> Iterator[pq.ParquetFile]:
        """Open the Parquet file.

        Raises:
            ValueError: the file is damaged.
        """
        fs, path = storage.resolve(self.uri)
        with _explained_errors(self.uri):
            if not self._is_intact:
                raise ValueError(
                    f"{self.uri} is damaged: its bytes are not those that were written. Run the accept job again."
                )
            with storage.open_file(fs, path) as stream, part_io.open_parquet(stream) as file:
                yield file

    @cached_property
    def _is_intact(self) -> bool:
        """Whether all bytes are as they were written; they are read once, not for every part that asks."""
        fs, path = storage.resolve(self.uri)
        with storage.open_file(fs, path) as stream:
            return is_intact(stream)


def acceptance_table(accepted: Iterable[str]) -> pa.Table:
    """Return the table of an acceptance that no scores decided, sorted by id."""
    ids = sorted(accepted)
    columns = [pa.array(ids, pa.string()), pa.array([True] * len(ids)), pa.nulls(len(ids), pa.float32())]
    return pa.table(columns, schema=ACCEPTANCE_SCHEMA)


def write_acceptance_file(uri: str, rule: Mapping[str, Any], table: pa.Table, *, hash: str | None = None) -> None:
    """Write an acceptance atomically.

    Args:
        uri: URI of the file.
        rule: settings of the rule.
        table: a table with :data:`ACCEPTANCE_SCHEMA`.
        hash: hash of rule and ids; None computes it.
    """
    check_table(table, ACCEPTANCE_SCHEMA, uri)
    if hash is None:
        ids = table.column("image_id").filter(table.column("accepted"))
        hash = _hash(rule, ids.take(pc.sort_indices(ids)))
    sink = pa.BufferOutputStream()
    header = {_RULE: json.dumps({"rule": dict(rule), "hash": hash}), KEY: VALUE}
    table = table.replace_schema_metadata(header)
    options = {"use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
    pq.write_table(table, sink, compression="zstd", **options)
    fs, path = storage.resolve(uri)
    storage.write_atomically(fs, path, seal(sink.getvalue().to_pybytes()))


def _hash(rule: Mapping[str, Any], ids: pa.ChunkedArray) -> str:
    """Return ``config_hash(rule, ids)``, without a Python object for every id at once."""
    digest = hashlib.sha256(f"[{canonical_json(dict(rule))},[".encode())
    for start in range(0, len(ids), _HASHED):
        text = json.dumps(ids.slice(start, _HASHED).to_pylist(), separators=(",", ":"))
        digest.update(f"{',' if start else ''}{text[1:-1]}".encode())
    digest.update(b"]]")
    return digest.hexdigest()[:16]


@contextmanager
def _explained_errors(uri: str) -> Iterator[None]:
    """Raise a ValueError that says what to do if an acceptance is damaged; transient errors pass."""
    try:
        yield
    except (pa.ArrowInvalid, KeyError, TypeError, OSError) as error:
        if is_transient(error):
            raise
        text = printable(" ".join(str(error).split()))
        raise ValueError(f"{uri} is damaged: {text}. Delete it and run the accept job again.") from error


def check_acceptance_file(acceptance: Acceptance) -> None:
    """Read all of an acceptance, and compare its rule and ids with its hash.

    Raises:
        ValueError: the file is damaged.
    """
    if acceptance.uri.endswith(".json"):
        ids = pa.chunked_array([sorted(acceptance.accepted)], pa.string())
    else:
        with acceptance.open() as file:
            table = file.read()
        check_table(table, ACCEPTANCE_SCHEMA, acceptance.uri)
        ids = table.column("image_id").filter(table.column("accepted"))
        ids = ids.take(pc.sort_indices(ids))
    if _hash(acceptance.rule, ids) != acceptance.hash:
        raise ValueError(
            f"{acceptance.uri} is damaged: its rule and ids are not those of its hash. Run the accept job again."
        )


def open_acceptance_file(uri: str, name: str) -> Acceptance:
    """Open an acceptance of either format; only its rule and hash are read.

    Raises:
        ValueError: the file is damaged.
    """
    if uri.endswith(".json"):
        header = part_io.read_json(uri)
    else:
        fs, path = storage.resolve(uri)
        with _explained_errors(uri), storage.open_file(fs, path) as stream:
            header = parse_object(pq.read_schema(stream).metadata[_RULE], f"the rule of {uri}")
    if missing := {"rule", "hash"} - header.keys():
        raise ValueError(f"{uri} is damaged: it has no {' and no '.join(sorted(missing))}. Run the accept job again.")
    return Acceptance(name=name, rule=header["rule"], hash=header["hash"], uri=uri)
