"""Names in the temporary folder that tell their process, so that what a killed process left behind can be deleted.

A name is ``fss-<kind>-<namespace>-<process>-<random>``. The namespace is that of the process ids, so that containers
that share a temporary folder leave each other's files alone. Versions before wrote names without a process.
"""

import os
import re
import shutil
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path

OLD_S = 24 * 3600.0
"""Seconds after which a name without a process is that of a dead one."""
_NAME = re.compile(r"fss-[a-z]+-(\d+)-(\d+)-.*")
_OLD_NAME = re.compile(r"fss-(?:workers-[0-9a-f]{32}|(?:checkpoint|tune)-[a-z0-9_]{8})")


def owned_prefix(kind: str) -> str:
    """Return the beginning of the names of this process; the kind is a word in lower case, such as ``model``."""
    return f"fss-{kind}-{process_namespace()}-{os.getpid()}-"


def owned_path(kind: str) -> Path:
    """Return a new path in the temporary folder."""
    return Path(tempfile.gettempdir()) / f"{owned_prefix(kind)}{uuid.uuid4().hex}"


def delete_leftovers() -> int:
    """Delete what dead processes of this user have left in the temporary folder, and return the number of entries."""
    count = 0
    for path in Path(tempfile.gettempdir()).glob("fss-*"):
        with suppress(OSError):  # another process deletes it too
            if path.lstat().st_uid == os.getuid() and _is_left(path):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                count += 1
    return count


def _is_left(path: Path) -> bool:
    if _OLD_NAME.fullmatch(path.name):
        return time.time() - path.lstat().st_mtime > OLD_S
    owner = _NAME.fullmatch(path.name)
    return owner is not None and owner[1] == process_namespace() and not is_alive(int(owner[2]))


def is_alive(process: int) -> bool:
    """Return whether there is a process with this id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def process_namespace() -> str:
    """Return the number of the namespace of process ids; 0 where the system has none."""
    try:
        return re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        return "0"
