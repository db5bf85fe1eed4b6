"""The columns of image parts and mask parts, and the identity of an image.

A part is one Parquet file. Row ``i`` of a mask part describes the image in row ``i`` of the image part of that name.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

SCORES = ("agreement", "contrast", "stability", "separation", "refinement", "area", "border")
RELABEL_SCORES = ("view", "support", "previous", "checkpoint")
ALL_SCORES = SCORES + RELABEL_SCORES
GATES = ("gate_area", "gate_border", "gate_corners", "gate_span", "gate_component", "gate_refined")

QUALITY_SCORES = ("agreement", "contrast", "stability")
"""The scores whose ranks make the quality; the others are stored for inspection."""
HARD_GATES = ("gate_area", "gate_border", "gate_corners", "gate_span", "gate_component")
"""Gates that an accepted mask passes; ``gate_refined`` only says whether the refined mask was kept."""

IMAGE_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("image", pa.large_binary()),  # encoded bytes as they came; null: kept by reference, or unusable
        pa.field("height", pa.int32()),  # pixels as shown, that is after the EXIF rotation
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


def make_image_id(data: bytes | None, relative_path: str) -> str:
    """Return the identity of an image: 16 hex digits of its bytes' SHA-256, a dash, 8 of its path's.

    Unique without coordination; equal pictures share the first half.

    Args:
        data: the encoded bytes; None where they could not be read, which counts as the empty string.
        relative_path: path relative to the source, with forward slashes.
    """
    content = hashlib.sha256(data or b"").hexdigest()[:16]
    path = hashlib.sha256(relative_path.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{content}-{path}"


def part_name(number: int) -> str:
    """Return the name of part ``number``: ``part-00000`` for 0."""
    if number < 0:
        raise ValueError(f"a part number is 0 or more, got {number}")
    return f"part-{number:05d}"


def image_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Make an image part of row dictionaries; absent columns become null."""
    return _table(rows, IMAGE_SCHEMA)


def mask_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Make a mask part of row dictionaries (see ``mask_codec.mask_row``); absent columns become null."""
    return _table(rows, MASK_SCHEMA)


def check_table(table: pa.Table, schema: pa.Schema, what: str) -> None:
    """Check that ``table`` has exactly the columns of ``schema``.

    Raises:
        ValueError: naming the first column that differs.
    """
    if table.column_names != schema.names:
        raise ValueError(f"{what} has the columns {table.column_names}; expected {schema.names}")
    for field in schema:
        found = table.schema.field(field.name).type
        if found != field.type:
            raise ValueError(f"{what}: column {field.name} has the type {found}; expected {field.type}")
        if not field.nullable and table.column(field.name).null_count:
            raise ValueError(f"{what}: column {field.name} has empty values; every row needs one")


def _table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    listed = [dict(row) for row in rows]
    unknown = sorted({key for row in listed for key in row} - set(schema.names))
    if unknown:
        raise ValueError(f"unknown columns {unknown}; the columns are {schema.names}")
    return pa.Table.from_pylist(listed, schema=schema)
