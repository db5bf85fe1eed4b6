"""Columns of image parts and mask parts, and the ids of images.

A part is one Parquet file. Row ``i`` of a mask part describes the image in row ``i`` of the image part with the same
name.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fss.core.arrays import BoolArray

SCORES = ("agreement", "contrast", "stability", "separation", "refinement", "area", "border")
RELABEL_SCORES = ("view", "support", "previous", "checkpoint")
ALL_SCORES = SCORES + RELABEL_SCORES
GATES = ("gate_area", "gate_border", "gate_corners", "gate_span", "gate_component", "gate_refined")

QUALITY_SCORES = ("agreement", "contrast", "stability")
"""Scores whose mean rank is the quality of a mask; the others are stored for inspection."""
HARD_GATES = ("gate_area", "gate_border", "gate_corners", "gate_span", "gate_component")
"""Gates that an accepted mask must pass; ``gate_refined`` only records whether the refined mask was used."""

IMAGE_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("image", pa.large_binary()),  # encoded bytes, unchanged; null if stored by reference or unusable
        pa.field("height", pa.int32()),  # pixels after the EXIF rotation
        pa.field("width", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("error", pa.string()),  # null, or "reason: text"
    ]
)

SCORES_TYPE = pa.struct(
    [pa.field(name, pa.float32()) for name in SCORES + RELABEL_SCORES] + [pa.field(name, pa.bool_()) for name in GATES]
)

MASK_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("mask", pa.large_binary()),  # 8-bit PNG: 0 background, v in 1..254 is classes[v - 1], 255 ignored
        pa.field("classes", pa.list_(pa.struct([pa.field("id", pa.int32()), pa.field("pixels", pa.int64())]))),
        pa.field("soft", pa.large_binary()),  # 8-bit PNG of a probability
        pa.field("scores", SCORES_TYPE),  # raw values and gates
        pa.field("error", pa.string()),
    ]
)


NOTES = b"fss.notes"
"""Key of the Parquet metadata of a part: JSON with what its masks show on reading, count by note."""

_IMAGE_ID = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}")


def make_image_id(data: bytes | None, relative_path: str) -> str:
    """Return the id of an image: 16 hex digits of the SHA-256 of its bytes, a dash, 8 of the SHA-256 of its path.

    Ids are unique without coordination, and images with equal bytes share the first half.

    Args:
        data: encoded bytes; None if they could not be read, which counts as empty.
        relative_path: path relative to the source, with forward slashes.
    """
    content = hashlib.sha256(data or b"").hexdigest()[:16]
    path = hashlib.sha256(relative_path.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{content}-{path}"


def has_content(image_id: str, data: bytes) -> bool:
    """Return whether an image id is that of an image with these bytes, whatever its path."""
    return hashlib.sha256(data).hexdigest()[:16] == image_id[:16]


def is_image_id(text: str) -> bool:
    """Return whether a text has the form of an image id."""
    return bool(_IMAGE_ID.fullmatch(text))


def valid_text(path: str) -> str:
    """Return a path or URI as valid Unicode; invalid bytes of a file name become escape sequences."""
    return os.fsencode(path).decode(errors="backslashreplace")


def error_reason(error: str) -> str:
    """Return the short reason of a row's error: ``truncated`` for ``truncated: 300 bytes are missing``."""
    return error.split(":", 1)[0]


def without_error(table: pa.Table) -> BoolArray:
    """Return whether each row of a part has no error, bool [N]."""
    return np.asarray(pc.equal(pc.fill_null(table.column("error"), ""), "").to_numpy(), np.bool_)


def part_name(number: int) -> str:
    """Return the name of part ``number``: ``part-00000`` for 0."""
    if number < 0:
        raise ValueError(f"a part number must be at least 0, got {number}")
    return f"part-{number:05d}"


def part_number(name: str) -> int:
    """Return the number of a part: 0 for ``part-00000``."""
    return int(name.removeprefix("part-"))


def image_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return an image part from row dictionaries; missing columns become null."""
    return _table(rows, IMAGE_SCHEMA)


def mask_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return a mask part from row dictionaries (see ``mask_codec.mask_row``); missing columns become null."""
    return _table(rows, MASK_SCHEMA)


def with_notes(table: pa.Table, notes: Mapping[str, int]) -> pa.Table:
    """Return a mask part with notes on the reading of its masks, count by note."""
    return table.replace_schema_metadata({NOTES: json.dumps(dict(notes))}) if notes else table


def read_notes(table: pa.Table) -> dict[str, int]:
    """Return the notes of a mask part, or of some of its columns."""
    notes: dict[str, int] = json.loads((table.schema.metadata or {}).get(NOTES, b"{}"))
    return notes


def check_table(table: pa.Table, schema: pa.Schema, what: str) -> None:
    """Check that ``table`` has exactly the columns of ``schema``.

    Raises:
        ValueError: a column is missing, unknown, of another type, or null where that is not allowed.
    """
    if table.column_names != schema.names:
        raise ValueError(f"{what} has the columns {table.column_names}; expected {schema.names}")
    for field in schema:
        column_type = table.schema.field(field.name).type
        if column_type != field.type:
            raise ValueError(f"{what}: column {field.name} has the type {column_type}; expected {field.type}")
        if not field.nullable and table.column(field.name).null_count:
            raise ValueError(f"{what}: column {field.name} has null values; every row needs one")


def _table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    copies = [dict(row) for row in rows]
    unknown = sorted({key for row in copies for key in row} - set(schema.names))
    if unknown:
        raise ValueError(f"unknown columns {unknown}; choose from {schema.names}")
    return pa.Table.from_pylist(copies, schema=schema)
