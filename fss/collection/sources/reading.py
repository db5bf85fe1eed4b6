"""Reading of one item: the photograph, and the mask by a function of the source."""

from collections.abc import Callable

from fss.collection.sources.base import RawItem, SourceItem
from fss.core import storage
from fss.images.decode_errors import DecodeError
from fss.images.labels import LabelMask
from fss.images.limits import DecodeLimits


def read_pair(
    item: SourceItem,
    limits: DecodeLimits,
    read_mask: Callable[[], LabelMask],
    read_photograph: Callable[[], bytes] | None = None,
) -> RawItem:
    """Read a photograph and its mask; failures are reported in the result.

    Args:
        item: item to read.
        limits: limits on its files.
        read_mask: returns the mask, or raises ValueError with the reason; called if there is a mask.
        read_photograph: returns the encoded photograph, or raises DecodeError; by default the file of the item's URI.
    """
    try:
        data = read_bytes(item.uri, limits) if read_photograph is None else read_photograph()
    except DecodeError as error:
        return RawItem(error=str(error), mask_error="no-image: the photograph cannot be read")
    if item.mask_error is not None:
        return RawItem(data=data, mask_error=item.mask_error)
    if item.mask_uri is None and item.annotation is None:
        return RawItem(data=data, mask_error="missing-mask: there is no mask of that name")
    try:
        label = read_mask()
    except ValueError as error:
        return RawItem(data=data, mask_error=str(error))
    return RawItem(data=data, label=label)


def read_bytes(uri: str, limits: DecodeLimits) -> bytes:
    """Read a file, at most one byte more than the limit.

    Raises:
        DecodeError: the file cannot be read.
        OSError: the object store does not answer; the file may be intact, so the part must be retried.
    """
    try:
        return storage.read_bytes(uri, limit=limits.max_bytes + 1)
    except OSError as error:
        if storage.may_be_intact(uri, error):
            raise
        raise DecodeError("unreadable", error.strerror or type(error).__name__) from error
