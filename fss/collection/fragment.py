"""The fragment of a part: its small columns and the hash of its file, as a small Arrow file with a checksum."""

import zlib

import pyarrow as pa

_CHECKSUM = 4  # bytes of a CRC-32, at the end
_HASH = b"fss.sha256"


def encode_fragment(columns: pa.Table, sha256: str) -> bytes:
    """Return the fragment of a part whose file has a hash."""
    columns = columns.replace_schema_metadata({_HASH: sha256})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns.schema) as writer:
        writer.write_table(columns)
    data: bytes = sink.getvalue().to_pybytes()
    return data + _checksum(data)


def decode_fragment(data: bytes) -> pa.Table | None:
    """Return the small columns in a fragment, with the hash in their metadata; None if it is damaged."""
    if data[-_CHECKSUM:] != _checksum(data[:-_CHECKSUM]):
        return None
    try:
        with pa.ipc.open_stream(data[:-_CHECKSUM]) as reader:
            return reader.read_all()
    except (OSError, pa.ArrowInvalid):
        return None


def fragment_hash(table: pa.Table | None) -> str:
    """Return the hash of a part's file in the metadata of its fragment; empty without a fragment."""
    return "" if table is None else (table.schema.metadata or {}).get(_HASH, b"").decode()


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM, "little")
