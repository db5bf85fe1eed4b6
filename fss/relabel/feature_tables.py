"""Tables of features, candidates and neighbours of a mask set: ``metadata/<set>/<kind>/part-00000.parquet``.

They belong to the mask set: overwriting or deleting the set removes them too. Sets of format 1 have them beside the
masks, as ``<kind>-part-00000.parquet``.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fss.collection import MaskSet, part_io
from fss.collection.acceptance import CLUSTER
from fss.collection.schema import check_table
from fss.core import storage
from fss.core.arrays import Float32

FEATURES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("feature", pa.list_(pa.float16())),  # unit length; null where the image is unusable
        pa.field("masked", pa.bool_(), nullable=False),  # whether the image has a mask, and so can be a support
    ]
)
NEIGHBOURS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("cluster", pa.int32()),  # null where the image is unusable
        pa.field("supports", pa.list_(pa.string()), nullable=False),  # nearest first
        pa.field("similarity", pa.list_(pa.float32()), nullable=False),  # cosine
    ]
)
CANDIDATES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),  # image part, and the number of the row in it
        pa.field("row", pa.int32(), nullable=False),
        pa.field("feature", pa.list_(pa.float16()), nullable=False),
        pa.field("bank", pa.bool_(), nullable=False),  # whether the image is a candidate for supports
        pa.field("sample", pa.int64()),  # position among the images that the clusters are trained on, or null
    ]
)
SCHEMAS = {"features": FEATURES, "neighbours": NEIGHBOURS, "candidates": CANDIDATES}


def finished(masks: MaskSet, kind: str) -> set[str]:
    """Return the names of the parts that have a table of this kind, by a single listing."""
    return set(part_io.list_parts(storage.join(masks.metadata_uri, kind)))


def unit_vectors(table: pa.Table) -> Float32:
    """Return the features of N rows, none of which is null, as unit vectors, float32 [N,D]."""
    values = table.column("feature").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    features = np.asarray(values, np.float32).reshape(table.num_rows, -1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


def read(masks: MaskSet, kind: str, part: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the table of a kind for a part, or some columns of it.

    Raises:
        ValueError: the table is missing or damaged.
    """
    uri = _uri(masks, kind, part)
    if not part_io.exists(uri):
        uri = storage.join(masks.uri, f"{kind}-{part}.parquet")
    fs, path = storage.resolve(uri)
    try:
        with storage.open_file(fs, path) as stream:
            table = pq.read_table(stream, columns=columns and list(columns), use_threads=False)
    except FileNotFoundError:
        raise ValueError(f"{masks.uri} has no {kind} of {part}; run the relabel job that writes them") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{uri} cannot be read: {error}. Delete it and run the relabel job again.") from error
    schema = SCHEMAS[kind]
    check_table(table, schema if columns is None else pa.schema([schema.field(name) for name in columns]), uri)
    return table


def write(masks: MaskSet, kind: str, part: str, rows: list[dict[str, object]]) -> None:
    """Write the table of a kind for a part, atomically."""
    write_table(masks, kind, part, pa.Table.from_pylist(rows, schema=SCHEMAS[kind]))


def write_table(masks: MaskSet, kind: str, part: str, table: pa.Table) -> None:
    """Write the table of a kind for a part, atomically; a table of candidates covers several parts."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="NONE", use_dictionary=False, write_statistics=False)
    fs, path = storage.resolve(_uri(masks, kind, part))
    storage.write_atomically(fs, path, sink.getvalue())


def with_clusters(scores: pa.Table, masks: MaskSet, parts: Sequence[str]) -> pa.Table:
    """Return a table of the scores of ``parts`` with the cluster of every image as an additional column."""
    columns = [read(masks, "neighbours", part, ["cluster"]).column("cluster") for part in parts]
    return scores.append_column(
        CLUSTER, pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.int32())
    )


def _uri(masks: MaskSet, kind: str, part: str) -> str:
    return storage.join(masks.metadata_uri, kind, f"{part}.parquet")
