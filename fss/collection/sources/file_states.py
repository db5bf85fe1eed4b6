"""The state of the files of a source, which tells whether somebody has written them since they were ingested."""

import hashlib
from pathlib import Path

from fss.collection.sources.base import Listing, SourceItem
from fss.core import storage


def file_states(listing: Listing) -> str:
    """Return 16 hex digits over the sizes of the files of a listing and, on a local disk, the times of their content.

    They change when a file is written, even if its content stays the same. Of an object store, the sizes count that
    the listing tells.
    """
    digest, seen = hashlib.sha256(), set[str]()
    for item in listing.items:
        for uri in _files(item):
            if uri not in seen:
                seen.add(uri)
                digest.update(f"{uri!a} {_state(uri, listing)}\n".encode())
    return digest.hexdigest()[:16]


def _files(item: SourceItem) -> list[str]:
    image, mask = item.shard or item.uri, item.mask_shard or (None if item.shard else item.mask_uri)
    return [image] if mask is None else [image, mask]


def _state(uri: str, listing: Listing) -> tuple[int | None, int | None]:
    """Return size and time of a file, as far as they are known; a painted picture has neither."""
    if storage.is_remote(uri):
        return listing.sizes.get(uri), None
    try:
        status = Path(uri).stat()
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns
