"""Disks that are full, read-only or of others, and object stores that fail, told in one line with what to do."""

import errno
import os
import re
from collections.abc import Iterator

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = ("No space left on device", "Disk quota exceeded", "File too large", "database or disk is full")
_READ_ONLY_WORDS = ("Read-only file system",)
_REFUSED_WORDS = ("[Errno 13] ", "[Errno 1] ")
_OTHER_KIND = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
DENIED = "ACCESS_DENIED"
"""What PyArrow's error says of a file of an object store that there is no permission for."""
CHECK_ACCESS = "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL and the network"
_OBJECT_STORE = re.compile(
    r"^(?:OSError: )?(.*(?:AWS Error|Could not connect to the endpoint URL|An error occurred \(\w+\) when calling).*)$",
    re.MULTILINE,
)
"""The line of an error of PyArrow's or of boto3's."""
_PATH = re.compile(
    rf"(?:{'|'.join((*_FULL_WORDS, *_READ_ONLY_WORDS, 'Permission denied', 'file', 'directory'))}):? '([^'\n]+)'"
)


def explain_storage_error(error: BaseException) -> str | None:
    """Return one line for an error of a disk that is full, read-only or of others, or of an object store; else None.

    The cause may be another error, or stand in the text of one: errors of workers and of native code come as text.
    """
    for each in _chain(error):
        number, text = (each.errno, str(each)) if isinstance(each, OSError) else (None, str(each))
        path = str(each.filename) if isinstance(each, OSError) and each.filename else None
        if path is None and (match := _PATH.search(text)):
            path = match[1]
        if number in FULL or any(words in text for words in _FULL_WORDS):
            target = f" for {path}" if path else ""
            return f"no space left{target}; free some space and run it again"
        if number == errno.EROFS or any(words in text for words in _READ_ONLY_WORDS):
            target = path or "the output"
            return (
                f"{target} is on a file system that is mounted read-only; mount it with write access, or give a folder "
                "on another disk, and run it again"
            )
        if number in (errno.EACCES, errno.EPERM) or any(words in text for words in _REFUSED_WORDS):
            return (
                f"there is no permission for {path or 'a file or folder'}; change its permissions or those of its "
                "folder, or run it again as their owner"
            )
        if number == errno.ENAMETOOLONG:
            return f"{path} has a name that is too long for its disk; give or choose a shorter one"
        if number in _OTHER_KIND and path:
            return f"{path} cannot be opened or written: {os.strerror(number).lower()}; rename it, or give another name"
        if match := _OBJECT_STORE.search(text):
            return f"the object store failed: {match[1].rstrip('.')}. {CHECK_ACCESS}, and run it again"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, the outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
