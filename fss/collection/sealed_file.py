"""A small Parquet file with a checksum of all its bytes, so that ``fss inspect --verify`` notices any change.

The checksums of Parquet cover pages, not the footer and the headers. This one lies between the data and the footer,
where readers of Parquet do not look.
"""

import hashlib

from pyarrow import NativeFile

KEY, VALUE = b"fss.sealed", b"1"
"""Entry of the metadata of a file with a checksum; files of fss 0.2 have none."""
_MARK = b"fss-sha256:"
_BLOCK = len(_MARK) + hashlib.sha256().digest_size
_TAIL = 8  # bytes behind the footer: its length and Parquet's magic word
_CHUNK = 1 << 20


def seal(data: bytes) -> bytes:
    """Return a Parquet file, whose metadata have :data:`KEY`, with its checksum."""
    footer = len(data) - _TAIL - int.from_bytes(data[-_TAIL:-4], "little")
    return data[:footer] + _MARK + hashlib.sha256(data).digest() + data[footer:]


def is_intact(stream: NativeFile) -> bool:
    """Return whether an open file is as :func:`seal` returned it; also for one of a version without checksums."""
    size = stream.size()
    stream.seek(max(0, size - _TAIL))
    footer = size - _TAIL - int.from_bytes(stream.read(4), "little")
    start = footer - _BLOCK
    stream.seek(max(0, start))
    block = stream.read(_BLOCK)
    if start < 0 or not block.startswith(_MARK):
        stream.seek(0)
        return KEY not in stream.read()
    digest = hashlib.sha256()
    for begin, end in ((0, start), (footer, size)):
        stream.seek(begin)
        while begin < end:
            chunk = stream.read(min(_CHUNK, end - begin))
            digest.update(chunk)
            begin += len(chunk)
    return bool(digest.digest() == block[len(_MARK) :])
