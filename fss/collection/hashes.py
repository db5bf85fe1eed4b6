"""Perceptual hashes of the photographs of a collection, in a folder of their own: ``hashes/part-00000.parquet``.

An ingest writes them with its parts. Those of a collection that has none are computed from its photographs.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fss.collection import part_io
from fss.collection.collection import Collection
from fss.collection.part_pipeline import IMAGE_COLUMNS, decode_row
from fss.core import storage
from fss.images.perceptual_hash import perceptual_hash

FOLDER = "hashes"
HASH_SCHEMA = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("hash", pa.uint64())])
"""Columns of a part; the hash is null for a picture that is unusable or nearly of one colour."""
_THREADS = 8  # parts that are read at a time, which hides the latency of an object store


def write_hashes(collection: Collection, part: str, image_ids: Sequence[str], hashes: Sequence[int | None]) -> None:
    """Write the hashes of the photographs of a part."""
    table = pa.table([pa.array(image_ids, pa.string()), pa.array(hashes, pa.uint64())], schema=HASH_SCHEMA)
    part_io.write(_folder(collection), part, HASH_SCHEMA, table)


def make_hashes(collection: Collection) -> int:
    """Compute the hashes of the parts that have none, and return the number of these parts.

    Raises:
        ValueError: a part is damaged.
    """
    finished = set(part_io.list_parts(_folder(collection)))
    missing = [part for part in collection.part_names() if part not in finished]
    with ThreadPoolExecutor(_THREADS) as pool:  # decoding releases the interpreter's lock
        list(pool.map(partial(_hash_part, collection), missing))
    return len(missing)


def read_hashes(collection: Collection) -> tuple[list[str], NDArray[np.int64], NDArray[np.uint64]]:
    """Return the parts, the number of rows before each and after the last, and the hashes of all rows, uint64 [N].

    A row without a hash has 0, which no picture has. A part whose hashes are missing or of other photographs has none.
    """
    ids = collection.image_ids()
    finished = set(part_io.list_parts(_folder(collection)))

    def read(part: str) -> NDArray[np.uint64]:
        if part in finished:
            table = part_io.read(_folder(collection), part, HASH_SCHEMA, None)
            if table.column("image_id").to_pylist() == ids[part]:
                return np.asarray(table.column("hash").fill_null(0).to_numpy(), np.uint64)
        return np.zeros(len(ids[part]), np.uint64)

    with ThreadPoolExecutor(_THREADS) as pool:
        hashes = list(pool.map(read, ids))
    starts = np.cumsum([0, *map(len, hashes)])
    return list(ids), starts, np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)


def _hash_part(collection: Collection, part: str) -> None:
    rows = collection.read_part(part, IMAGE_COLUMNS).to_pylist()
    pictures = (decode_row(row, collection.limits).rgb for row in rows)
    hashes = [None if rgb is None else perceptual_hash(rgb) for rgb in pictures]
    write_hashes(collection, part, [row["image_id"] for row in rows], hashes)


def _folder(collection: Collection) -> str:
    return storage.join(collection.uri, FOLDER)
