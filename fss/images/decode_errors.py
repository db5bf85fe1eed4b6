"""The one error of the decoders: a short reason, and a text that says in plain words what is wrong with a file."""

from PIL import Image

from fss.images.headers import HeaderError

_ENDS_EARLY = "the file ends before its pixels do; copy or download it again"
_NO_HEADER = "its header is damaged, or it is a file of another format; copy or download it again"
_DAMAGED = "its pixels are damaged; copy or download it again"
_UNSUPPORTED = "it uses a part of its format that cannot be read; save it as PNG or JPEG"
_TEXTS = (
    (
        "truncated",
        _ENDS_EARLY,
        ("truncated", "not enough image data", "unexpected end", "eof", "requires a buffer", "insufficient input"),
    ),
    ("unsupported", _UNSUPPORTED, ("unsupported", "unknown")),
    (
        "corrupt",
        _DAMAGED,
        ("broken data stream", "decoder error", "cannot load", "next frame", "failed to decode", "decoder plugin"),
    ),
    ("corrupt", _NO_HEADER, ("dimensions", "broken png", "not identified", "marker", "no more images", "not found")),
    (
        "corrupt",
        _NO_HEADER,
        ("not a webp", "create decoder", "layers", "layer images", "palette size", "tile cannot", "invalid input"),
    ),
)


class DecodeError(ValueError):
    """An image cannot be decoded. Its message is ``"reason: text"``."""

    def __init__(self, reason: str, text: str):
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        """Short slug: empty, too-many-bytes, unknown-format, too-many-pixels, side-too-long, side-too-short,
        too-many-scans, truncated, corrupt, unsupported, and git-lfs-pointer, git-annex-pointer and dvc-pointer for a
        file that stands for data elsewhere."""


def explain_error(error: Exception) -> DecodeError:
    """Return the reason for an exception of a decoder.

    A text that is known is replaced by plain words; another one is quoted.
    """
    if isinstance(error, DecodeError):
        return error
    if isinstance(error, HeaderError):
        return DecodeError(error.reason, str(error))
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return DecodeError("too-many-pixels", f"a frame or tile of it has more than {most} pixels; save it as PNG")
    if isinstance(error, MemoryError):
        return DecodeError("too-many-pixels", "there is not enough memory to decode it; lower limits.max_pixels")
    if isinstance(error, NotImplementedError) or isinstance(error.__cause__ or error, KeyError):
        return DecodeError("unsupported", _UNSUPPORTED)  # Pillow wraps the KeyError of a mode that it does not have
    for reason, plain, words in _TEXTS:
        if any(word in text.lower() for word in words):
            return DecodeError(reason, plain)
    return DecodeError("corrupt", f"the file is damaged; its decoder says: {text}")
