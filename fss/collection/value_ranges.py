"""Byte ranges of pictures and masks within their part, which its footer holds, so that a single one can be read.

Parquet knows row groups and pages but no values. Parts are not compressed, so a value lies in the file as it is,
behind its length in 4 bytes.
"""

import base64
import json
import zlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fss.core.arrays import Int64

KEY = "fss.ranges"
"""Key of the Parquet metadata of a part."""
CHECKSUMS = "fss.crc32"
"""Key of the checksums of masks. Images need none, because their ids hash their bytes."""
WINDOW = 1 << 16  # bytes that are searched at a time
HEAD = 32  # bytes of a value that are searched, before all of it is compared


def find_ranges(file: memoryview, table: pa.Table, row_group: int) -> dict[str, Int64]:
    """Return the ranges of all values of the large binary columns of a table.

    Args:
        file: the row groups of the written file, at least.
        table: the table that was written, of N rows.
        row_group: rows of a row group.

    Returns:
        Offset and length of each value, int64 [N,2] by column; the length of a null is -1.
    """
    names = [field.name for field in table.schema if field.type == pa.large_binary()]
    ranges = {name: np.full((table.num_rows, 2), (0, -1), np.int64) for name in names}
    position = 0
    for start in range(0, table.num_rows, row_group):
        for name in names:
            for row, value in enumerate(table.column(name).slice(start, row_group), start):
                if value.is_valid:
                    data = memoryview(value.as_buffer()).cast("B")
                    position = _find(file, data, position)
                    ranges[name][row] = position, len(data)
                    position += len(data)
    return ranges


def encode_ranges(ranges: Mapping[str, Int64]) -> str:
    """Return ranges as text of about 4 bytes for each value."""
    return json.dumps({name: _encode(values) for name, values in ranges.items()})


def decode_ranges(text: bytes) -> dict[str, Int64]:
    """Return the ranges of :func:`encode_ranges`."""
    return {name: _decode(values) for name, values in json.loads(text).items()}


def encode_checksums(table: pa.Table) -> str:
    """Return the CRC-32 of every value of the large binary columns of a table, except ``image``, as text."""
    names = [field.name for field in table.schema if field.type == pa.large_binary() and field.name != "image"]
    sums = {name: [zlib.crc32(value or b"") for value in table.column(name).to_pylist()] for name in names}
    return json.dumps(
        {name: base64.b64encode(np.asarray(values, "<u4").tobytes()).decode() for name, values in sums.items()}
    )


def decode_checksums(text: bytes) -> dict[str, NDArray[np.uint32]]:
    """Return the checksums of :func:`encode_checksums`, uint32 [N] by column."""
    return {name: np.frombuffer(base64.b64decode(values), "<u4") for name, values in json.loads(text).items()}


def _find(file: memoryview, data: memoryview, start: int) -> int:
    """Return the first position from ``start`` on at which a value lies behind its length."""
    head = len(data).to_bytes(4, "little") + bytes(data[:HEAD])
    while True:
        window = bytes(file[start : start + WINDOW])
        index = window.find(head)
        if index < 0:
            assert len(window) == WINDOW, "every value is in the file"
            start += WINDOW - len(head) + 1
            continue
        start += index + 1
        if file[start + 3 : start + 3 + len(data)] == data:
            return start + 3


def _encode(ranges: Int64) -> str:
    """Encode the gaps before the values, nearly all of which are 4 bytes, and the lengths."""
    lengths = np.maximum(ranges[:, 1], 0)
    ends = np.where(ranges[:, 1] < 0, 0, ranges[:, 0] + lengths)
    gaps = ranges[:, 0] - np.concatenate([[0], np.maximum.accumulate(ends)[:-1]])
    gaps[ranges[:, 1] < 0] = 0
    return base64.b64encode(zlib.compress(np.stack([gaps, ranges[:, 1]]).astype("<i8").tobytes(), 9)).decode()


def _decode(text: str) -> Int64:
    gaps, lengths = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i8").reshape(2, -1)
    ends = np.cumsum(gaps + np.maximum(lengths, 0))
    return np.stack([ends - np.maximum(lengths, 0), lengths], axis=1)
