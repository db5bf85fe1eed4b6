"""The encoded picture of an image row, whether the collection keeps it or only points at it."""

from fss.collection import files
from fss.collection.decode import DecodeLimits


def picture_bytes(image: bytes | None, uri: str, limits: DecodeLimits) -> bytes:
    """Return the bytes of a row's picture.

    A URI may point anywhere, so no more is read than a picture may have: one byte above the limit, and the decoder
    refuses it.

    Args:
        image: the row's bytes; None where the picture is kept by reference.
        uri: where it then is.
        limits: of the collection.

    Raises:
        OSError: the file is missing, cannot be read, or is no regular file.
    """
    return image or files.read_bytes(uri, limits.max_bytes + 1)
