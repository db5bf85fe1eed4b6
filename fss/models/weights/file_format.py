"""Recognise a file by its content: safetensors, a torch file, or something else that is named in one line."""

import json
import os
import re
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

Format = Literal["safetensors", "torch"]

_HEAD = 4096  # bytes that identify a format
_TORCH_PICKLE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's magic number, in files without zip
_LFS = "version https://git-lfs.github.com/spec/"
_ANNEX = "annex/objects/"
_AGAIN = "its download or copy stopped early; get it again"
_STATE_DICT = "save its state dict with torch.save(model.state_dict(), FILE)"

_SIGNATURES: tuple[tuple[bytes, int, str, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 file, such as Keras writes", "give weights of PyTorch"),
    (b"TFL3", 4, "a TensorFlow Lite model", "give weights of PyTorch"),
    (b"GGUF", 0, "a GGUF model", "give weights of PyTorch"),
    (b"\x93NUMPY", 0, "a NumPy array (.npy)", "give a state dict, or safetensors"),
    (b"MATLAB 5.0 MAT-file", 0, "a MATLAB file", "give weights of PyTorch"),
    (b"\x1f\x8b", 0, "a gzip archive", "unpack it with gunzip or tar -xzf, and give the file inside"),
    (b"BZh", 0, "a bzip2 archive", "unpack it with bunzip2 or tar -xjf, and give the file inside"),
    (b"\xfd7zXZ\x00", 0, "an xz archive", "unpack it with unxz or tar -xJf, and give the file inside"),
    (b"\x28\xb5\x2f\xfd", 0, "a zstd archive", "unpack it with unzstd, and give the file inside"),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7z archive", "unpack it, and give the file inside"),
    (b"Rar!\x1a\x07", 0, "a RAR archive", "unpack it, and give the file inside"),
    (b"%PDF", 0, "a PDF document", "give the path of a weights file"),
    (b"\x89PNG\r\n\x1a\n", 0, "a PNG picture", "give the path of a weights file"),
    (b"\xff\xd8\xff", 0, "a JPEG picture", "give the path of a weights file"),
    (b"PAR1", 0, "a Parquet file", "give the path of a weights file"),
    (b"\x7fELF", 0, "a program", "give the path of a weights file"),
)
"""Bytes of other formats, their offset, the name of the format, and what to do."""


def weights_format(file: BinaryIO, name: str) -> Format:
    """Return the format of an open file with weights; the position in the file is its start again afterwards.

    Args:
        file: the open file.
        name: path or URI, for the message.

    Raises:
        ValueError: the file is empty, damaged or of another format; the message says what it is and what to do.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(_HEAD)
    try:
        if not head:
            raise _refuse(name, "is empty (0 bytes)", _AGAIN)
        if head[8:9] == b"{" and (complaint := _safetensors_complaint(file, size)) is not None:
            if complaint:
                raise _refuse(name, complaint, _AGAIN)
            return "safetensors"
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            _check_zip(file, name)
            return "torch"
        if head.startswith(_TORCH_PICKLE):
            return "torch"
        raise _refuse(name, *_other(file, head, name))
    finally:
        file.seek(0)


def _refuse(name: str, what: str, advice: str) -> ValueError:
    return ValueError(f"the weights file {name} {what}; {advice}")


def check_local_file(path: Path) -> None:
    """Refuse a path without a file behind it.

    Raises:
        ValueError: there is nothing, a folder or a link without content; the message says what to do.
    """
    if path.is_file():
        return
    if path.is_symlink() and not path.exists():
        target = str(path.readlink())
        if _ANNEX in target:
            raise _refuse(str(path), "is a git-annex link without its content", _annex_advice(path.name))
        raise _refuse(str(path), f"is a link to {target}, which does not exist", "get that file, or mend the link")
    if path.is_dir():
        names = sorted(each.name for each in path.iterdir())
        weights = [each for each in names if each.endswith((".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar"))]
        raise _refuse(
            str(path), f"is a folder ({_listing(weights or names) or 'empty'})", "give the path of a weights file in it"
        )
    if path.exists():
        raise _refuse(str(path), "is no regular file", "give the path of a weights file")
    raise ValueError(f"there is no weights file {path}; give the path of an existing file")


def _safetensors_complaint(file: BinaryIO, size: int) -> str | None:
    """Return None if this is no safetensors file, an empty text if it is whole, or what is wrong with it."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        return f"is a safetensors file cut off in its header ({size:,} bytes)" if length < 1 << 27 else None
    try:
        header = json.loads(file.read(length))
        ends = [each["data_offsets"][1] for key, each in header.items() if key != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        return "is a safetensors file with a damaged header"
    return "" if size == whole else f"is a damaged safetensors file: it has {size:,} of {whole:,} bytes"


def _check_zip(file: BinaryIO, name: str) -> None:
    """Refuse zip archives that torch.save did not write."""
    try:
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise _refuse(name, "is a zip archive without its end, such as a torch file in part", _AGAIN) from None
    bases = {each.split("/", 1)[-1] for each in names}
    if "constants.pkl" in bases:
        script = f"torch.save(torch.jit.load({Path(name).name!r}).state_dict(), 'weights.pth')"
        raise _refuse(name, "is a TorchScript archive, which holds a program", f"save its state dict with {script}")
    if "data.pkl" in bases:
        return
    if any("archive_format" in each or "serialized_exported_program" in each for each in names):
        raise _refuse(name, "is a program of torch.export", _STATE_DICT)
    if "model.weights.h5" in bases:
        raise _refuse(name, "is a Keras model", "give weights of PyTorch")
    if names and all(each.endswith(".npy") for each in names):
        raise _refuse(name, f"is a NumPy archive (.npz) of {_listing(names)}", "give a state dict, or safetensors")
    raise _refuse(name, f"is a zip archive of {_listing(names) or 'nothing'}", "unpack it, and give the file inside")


def _other(file: BinaryIO, head: bytes, name: str) -> tuple[str, str]:
    """Return what a file without weights is, and what to do."""
    for signature, offset, what, advice in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return f"is {what}", advice
    if head[257:262] == b"ustar":
        file.seek(0)
        with tarfile.open(fileobj=file, errorlevel=0) as archive:
            first = [archive.next() for _ in range(6)]
        names = [member.name for member in first if member is not None]
        return f"is a tar archive of {_listing(names)}", "unpack it with tar -xf, and give the file inside"
    if name.endswith(".onnx") or (head[:1] == b"\x08" and head[2:3] in (b"\x12", b":")):
        return "is an ONNX model", "give the weights of PyTorch that it was exported from"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "is a Python pickle that torch.save did not write", _STATE_DICT
    try:
        text = head.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        text = "" if error.start < len(head) - 4 else head[: error.start].decode("utf-8-sig").strip()
    if text and all(each.isprintable() or each.isspace() for each in text):
        return _text(file, text, Path(name).name)
    return f"is of no known format (it begins with {head[:8].hex(' ')})", "give a state dict, or safetensors"


def _text(file: BinaryIO, text: str, name: str) -> tuple[str, str]:
    """Return what a text file is, and what to do."""
    if text.startswith(_LFS):
        size = re.search(r"^size (\d+)$", text, re.MULTILINE)
        content = f" (of {int(size[1]):,} bytes)" if size else ""
        return f"is a git-lfs pointer without its content{content}", f"run `git lfs pull --include {name}`, then again"
    if _ANNEX in text.splitlines()[0]:
        return "is a git-annex pointer without its content", _annex_advice(name)
    if text.startswith("outs:"):
        return "is a DVC pointer without its content", f"run `dvc pull {name}`, and give the file it names"
    if re.match(r"<(!doctype html|html|head|body|!--|script|meta)", text, re.IGNORECASE):
        title = re.search(r"<title[^>]*>\s*(.*?)\s*</title>", text, re.IGNORECASE | re.DOTALL)
        words = f" titled {' '.join(title[1].split())[:80]!r}" if title else ""
        return f"is a web page (HTML){words}", "a link led to a page instead of a file: download the file itself"
    if text.startswith("<"):
        return f"is XML, such as an object store's refusal ({_start(text)})", "download the file itself"
    if text[0] in "{[":
        file.seek(0)
        return f"is JSON text{_json_keys(file.read())}", "give the path of a weights file"
    return f"is text ({_start(text)})", "give the path of a weights file"


def _json_keys(data: bytes) -> str:
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    if isinstance(value, Mapping) and "weight_map" in value:
        return ", the index of weights in several files"
    return f" with the top-level keys {_listing(list(value))}" if isinstance(value, Mapping) else ""


def _annex_advice(name: str) -> str:
    return f"run `git annex get {name}`, then again"


def _start(text: str) -> str:
    return f"it begins with {' '.join(text.split())[:60]!r}"


def _listing(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + more
