"""The fragment of a part: its small columns and the hash of its file, as a small Arrow file with a checksum."""

import zlib

import pyarrow as pa

_CHECKSUM = 4  # bytes of a CRC-32, at the end
_HASH = b"fss.sha256"
_PART = b"fss.part"


def encode_fragment(columns: pa.Table, part: str, sha256: str) -> bytes:
    """Return the fragment of a part whose file has a hash."""
    columns = columns.replace_schema_metadata({_HASH: sha256, _PART: part})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns.schema) as writer:
        writer.write_table(columns)
    data: bytes = sink.getvalue().to_pybytes()
    return data + _checksum(data)


def decode_fragment(data: bytes, part: str) -> pa.Table | None:
    """Return the small columns in the fragment of a part, with the hash in their metadata.

    It is None if the fragment is damaged or is that of another part. Those of fss 0.2 do not name theirs.
    """
    if data[-_CHECKSUM:] != _checksum(data[:-_CHECKSUM]):
        return None
    try:
        with pa.ipc.open_stream(data[:-_CHECKSUM]) as reader:
            columns = reader.read_all()
    except (OSError, pa.ArrowInvalid):
        return None
    written = (columns.schema.metadata or {}).get(_PART, part.encode())
    return columns if written == part.encode() else None


def fragment_hash(table: pa.Table | None) -> str:
    """Return the hash of a part's file in the metadata of its fragment; empty without a fragment."""
    return "" if table is None else (table.schema.metadata or {}).get(_HASH, b"").decode()


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM, "little")
