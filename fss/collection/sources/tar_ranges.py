"""Photographs and masks of tar files by their byte ranges; neighbours are read at once."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from fss.collection.sources.base import SourceItem
from fss.collection.sources.shards import Shard
from fss.collection.sources.tar_index import is_intact
from fss.core import storage
from fss.images.decode_errors import DecodeError
from fss.images.limits import DecodeLimits

_HEADER = 512  # bytes of the header before the data of a member
_GAP, _RUN = 2**14, 2**24  # bytes: ranges so close to each other are read as one, up to a size
_READERS = 4  # concurrent reads of a part


@dataclass(frozen=True, slots=True, order=True)
class _Range:
    """Bytes of a shard."""

    shard: str
    offset: int
    size: int
    uri: str

    @property
    def start(self) -> int:
        return self.offset - _HEADER

    @property
    def end(self) -> int:
        return self.offset + self.size


def read_ranges(items: Iterable[SourceItem], limits: DecodeLimits) -> dict[str, bytes | DecodeError]:
    """Return the bytes of photographs and masks by URI, or the reason why they are missing.

    Raises:
        OSError: the object store does not answer.
    """
    ranges = []
    for item in items:
        for shard, uri, offset, size in (
            (item.shard, item.uri, item.image_offset, item.image_size),
            (item.mask_shard or item.shard, item.mask_uri, item.mask_offset, item.mask_size),
        ):
            if shard is not None and uri is not None and offset is not None and size is not None:
                ranges.append(_Range(shard, offset, size, uri))
    contents: dict[str, bytes | DecodeError] = {
        one.uri: DecodeError("too-many-bytes", f"{one.size} bytes in the shard; at most {limits.max_bytes} are allowed")
        for one in ranges
        if one.size > limits.max_bytes
    }
    by_shard: dict[str, list[_Range]] = {}
    for one in sorted(one for one in ranges if one.uri not in contents):
        by_shard.setdefault(one.shard, []).append(one)
    with ThreadPoolExecutor(_READERS) as pool:
        for shard, some in by_shard.items():
            try:
                with Shard(shard) as file:
                    for found in pool.map(partial(_read_run, file), _runs(some)):
                        contents.update(found)
            except OSError as error:
                if storage.may_be_intact(shard, error):
                    raise
                reason = DecodeError("unreadable", error.strerror or type(error).__name__)
                contents.update({one.uri: contents.get(one.uri, reason) for one in some})
    return contents


def _runs(ranges: Iterable[_Range]) -> list[list[_Range]]:
    """Group sorted ranges of a shard that lie close to each other."""
    runs: list[list[_Range]] = []
    for one in ranges:
        if runs and one.start - runs[-1][-1].end <= _GAP and one.end - runs[-1][0].start <= _RUN:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def _read_run(shard: Shard, run: Sequence[_Range]) -> dict[str, bytes | DecodeError]:
    """Read neighbouring ranges of a shard at once, with the header before each, which shows that it is still there."""
    start = run[0].start
    data = shard.read_at(start, run[-1].end - start)
    return {one.uri: _cut(data, one, start) for one in run}


def _cut(data: bytes, one: _Range, start: int) -> bytes | DecodeError:
    header, part = data[one.start - start : one.offset - start], data[one.offset - start : one.end - start]
    if not is_intact(header, one.size):
        return DecodeError(
            "changed-shard", "the shard has changed since it was listed; ingest it into a new collection"
        )
    if len(part) < one.size:
        return DecodeError("truncated", "the shard ends within the file; copy or download the shard again")
    return part
