"""Where converted networks are kept: a folder per network in the user's cache, with the checks that they have passed.

The folder is ``$XDG_CACHE_HOME/fss/programs``, by default ``~/.cache/fss/programs``. It may be deleted at any time. A
network's folder is named after its weights, its settings, and the code that converted it, so none is ever out of date.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch

import fss.models
from fss.core.config import to_dict
from fss.core.hashing import DIGITS
from fss.core.temporary import owned_prefix
from fss.inference.parity import Parity
from fss.models.segmenter import FewShotSegmenter


class ProgramStore:
    """The converted programs of a segmenter."""

    def __init__(self, segmenter: FewShotSegmenter) -> None:
        """Choose the folder; where the user's cache cannot be written, it is a temporary one of this process."""
        name = fingerprint(segmenter)
        try:
            root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
            self.folder = root / "fss" / "programs" / name
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except (OSError, RuntimeError):  # RuntimeError: the user has no home
            self._temporary = tempfile.TemporaryDirectory(prefix=owned_prefix("programs"))
            self.folder = Path(self._temporary.name)

    def has(self, name: str) -> bool:
        """Return whether a program is there."""
        return self._path(name).exists()

    def program(self, name: str, write: Callable[[Path], None]) -> Path:
        """Return the file of a program; ``write`` makes one that is missing."""
        path = self._path(name)
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                write(Path(folder) / path.name)
                (Path(folder) / path.name).replace(path)
        return path

    def passed(self, check: str) -> bool:
        """Return whether a check has been passed."""
        return (self.folder / f"{check}.json").exists()

    def note_passed(self, check: str, parity: Parity) -> None:
        """Keep that a check has been passed, and its numbers."""
        (self.folder / f"{check}.json").write_text(json.dumps(asdict(parity)) + "\n")

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.onnx"


def fingerprint(segmenter: FewShotSegmenter) -> str:
    """Return 16 hex digits that tell the weights, the settings and the code of a segmenter."""
    digest = hashlib.sha256(_code().encode())
    prior = None if segmenter.prior is None else to_dict(segmenter.prior.config)
    digest.update(json.dumps([to_dict(segmenter.config), prior], sort_keys=True, default=str).encode())
    for name, tensor in segmenter.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:DIGITS]


@cache
def _code() -> str:
    """Return a hash of the modules that a program is made from, with PyTorch's version."""
    digest = hashlib.sha256(torch.__version__.encode())
    folders = Path(fss.models.__path__[0]), Path(__file__).parent
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
