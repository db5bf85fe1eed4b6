"""Open a file with weights.

Torch files are read with ``weights_only=True``, which runs no code from the file. Objects of other classes, such as
pickled settings, become empty containers.
"""

import hashlib
import io
import json
import os
import pickle
import pickletools
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from pyarrow import fs as pafs
from safetensors import SafetensorError

from fss.core import storage
from fss.models.weights.file_format import check_local_file, weights_format

HARMLESS = ("torch.", "collections.", "_codecs.", "builtins.", "argparse.", "pathlib.")
"""Modules whose classes stand beside weights without being the cause of anything."""
_PICKLES = 4  # pickles in a torch file without zip: magic number, version, system, content

# Types of NumPy that hold data only.
_ARRAY: Any = np.zeros(0).__reduce__()[0]  # the function that makes NumPy's arrays
_SCALAR: Any = np.float64(0).__reduce__()[0]  # the function that makes NumPy's scalars
_NUMPY: tuple[tuple[Callable[..., Any], str], ...] = (
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_ARRAY, "numpy._core.multiarray._reconstruct"),
    (_ARRAY, "numpy.core.multiarray._reconstruct"),
    (np.ndarray, "numpy.ndarray"),
    (np.dtype, "numpy.dtype"),
    *((type(np.dtype(each)), f"numpy.dtypes.{type(np.dtype(each)).__name__}") for each in "?bBhHiIlLqQefdFDSU"),
)


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """The content of a weights file."""

    name: str
    """Path or URI of the file."""
    content: Any
    """What the file holds, such as a state dict, or a mapping with one among its entries."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Metadata in the header of a safetensors file."""
    sha256: str = ""
    """SHA-256 of a safetensors file."""
    foreign: tuple[str, ...] = ()
    """Classes and functions in a torch file whose objects were replaced by empty containers."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The top-level keys."""
        return tuple(map(str, self.content)) if isinstance(self.content, Mapping) else ()


def open_weights(uri: str | Path, *, safetensors_only: bool = False) -> WeightsFile:
    """Open a safetensors or torch file on a local disk or an object store; tensors come to the CPU.

    Args:
        uri: local path or s3:// URI.
        safetensors_only: refuse torch files.

    Raises:
        ValueError: there is no such file, or it is damaged or of another format; one line says what it is.
    """
    name = str(uri)
    with _opened(name) as file:
        try:
            file_format = weights_format(file, name)
        except ValueError as error:
            if safetensors_only:
                raise ValueError(f"{error}. It holds no safetensors, and nothing else is read here") from None
            raise
        if file_format == "safetensors":
            return _read_safetensors(file, name)
        if safetensors_only:
            raise ValueError(f"{name} is a torch file. It holds no safetensors, and nothing else is read here")
        return _read_torch(file, name)


def check_weights_file(uri: str | Path) -> None:
    """Check the format of a local weights file without reading its tensors; those of object stores are not opened.

    Raises:
        ValueError: there is no such file, or it is of another format; one line says what it is.
    """
    if not storage.is_remote(str(uri)):
        with _opened(str(uri)) as file:
            weights_format(file, str(uri))


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    filesystem, path = storage.resolve(name)
    if isinstance(filesystem, pafs.LocalFileSystem):
        check_local_file(Path(path))
        if not os.access(path, os.R_OK):
            raise ValueError(f"the weights file {name} may not be read by this user; change its mode or owner")
        with Path(path).open("rb") as file:
            yield file
        return
    try:
        data = storage.read_bytes(name)
    except OSError as error:
        raise ValueError(f"there is no weights file {name}: {' '.join(str(error).split())}") from error
    yield io.BytesIO(data)


def _read_safetensors(file: BinaryIO, name: str) -> WeightsFile:
    from safetensors.torch import load, load_file

    # Format of safetensors: 8 bytes with the length of the header, the header as JSON, the numbers.
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    file.seek(0)
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # the protocol is narrower
    file.seek(0)
    try:
        tensors = load(file.read()) if isinstance(file, io.BytesIO) else load_file(file.name)
    except SafetensorError as error:
        raise ValueError(f"the safetensors file {name} is damaged ({error}); get it again") from error
    return WeightsFile(name=name, content=tensors, metadata=dict(header.get("__metadata__") or {}), sha256=sha256)


def _read_torch(file: BinaryIO, name: str) -> WeightsFile:
    foreign: set[str] = set()
    classes: list[str] = []
    try:
        classes = _class_names(file)
        allowed: list[Any] = [*_NUMPY, *((_substitute(each, foreign), each) for each in classes)]
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")  # about the pickle's protocol, and changed sources of pickled modules
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise errors of any type
        raise ValueError(f"the weights file {name} {_reason(error, classes)}") from error
    return WeightsFile(name=name, content=content, foreign=tuple(sorted(foreign)))


def _class_names(file: BinaryIO) -> list[str]:
    """Return the full names of the classes and functions that a torch file needs, without those of NumPy."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            _check_records(archive)
            member = next(each for each in archive.namelist() if each.endswith("/data.pkl") or each == "data.pkl")
            pickles = [io.BytesIO(archive.read(member))]
    else:
        file.seek(0)
        pickles = [file] * _PICKLES  # type: ignore[list-item]
    operations = (each for data in pickles for each in pickletools.genops(data))
    names = {_full_name(*str(value).split(" ", 1)) for code, value, _ in operations if code.name == "GLOBAL"}
    file.seek(0)
    return sorted(names - {name for _, name in _NUMPY})


def _check_records(archive: zipfile.ZipFile) -> None:
    """Compare the records of a torch file with their checksums, which torch does not do.

    Raises:
        zipfile.BadZipFile: a record is damaged.
    """
    for record in archive.infolist():
        if record.CRC:  # torch.serialization.set_crc32_options(False) writes 0
            with archive.open(record) as data:
                while data.read(1 << 20):
                    pass


def _full_name(module: str, name: str) -> str:
    """Return the name in Python 3 of a class; torch's pickles have the names of Python 2."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def _substitute(name: str, used: set[str]) -> type:
    """Return a class that makes empty containers, and adds ``name`` to ``used`` when it makes one."""

    def make(cls: type, *args: Any, **kwargs: Any) -> Any:
        used.add(name)
        return [] if name == "collections.deque" else OrderedDict()

    return type("Substitute", (), {"__new__": make})


def _reason(error: Exception, classes: list[str]) -> str:
    """Say why a torch file was not read, without torch's advice to trust it."""
    text = " ".join(str(error).split())
    if "is blocked" in text:
        return f"pickles a call of {_first_global(text)}, which runs commands; it is not opened"
    if isinstance(error, pickle.UnpicklingError) and "Unsupported operand" in text:
        return "was saved with another pickle protocol than torch's default (2); save it again with torch.save"
    others = [each for each in classes if not each.startswith(HARMLESS)]
    if others and isinstance(error, (pickle.UnpicklingError, TypeError, ValueError, AttributeError)):
        return (
            f"pickles objects of {', '.join(others[:3])}, which are not opened; save the weights alone with "
            "torch.save(model.state_dict(), FILE)"
        )
    return f"is a damaged torch file ({type(error).__name__}); its download or copy failed: get it again"


def _first_global(text: str) -> str:
    return text.partition("GLOBAL ")[2].split(" ")[0]
