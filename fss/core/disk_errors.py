"""Disks that are full or read-only, told in one line: the path, the cause and what to do."""

import errno
import re
from collections.abc import Iterator

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = ("No space left on device", "Disk quota exceeded", "File too large", "database or disk is full")
_READ_ONLY_WORDS = ("Read-only file system",)
_PATH = re.compile(rf"(?:{'|'.join((*_FULL_WORDS, *_READ_ONLY_WORDS))}):? '([^'\n]+)'")


def explain_disk_error(error: BaseException) -> str | None:
    """Return one line for an error of a disk that is full or read-only; None for any other error.

    The cause may be another error, or stand in the text of one: errors of workers and of native code come as text.
    """
    for each in _chain(error):
        number, text = (each.errno, str(each)) if isinstance(each, OSError) else (None, str(each))
        path = str(each.filename) if isinstance(each, OSError) and each.filename else None
        if path is None and (match := _PATH.search(text)):
            path = match[1]
        if number in FULL or any(words in text for words in _FULL_WORDS):
            target = f" for {path}" if path else ""
            return f"no space left{target}; free some space and run it again to resume"
        if number == errno.EROFS or any(words in text for words in _READ_ONLY_WORDS):
            target = path or "the output"
            return (
                f"{target} is on a file system that is mounted read-only; mount it with write access, or give a folder "
                "on another disk, and run it again to resume"
            )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, the outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
