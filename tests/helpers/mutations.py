"""Damage to the files of a folder, as disks, copies, editors and strangers do it, and the verdict on what follows."""

import faulthandler
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fss.core.storage_errors import explain_storage_error
from tests.helpers.coco_fuzzing import change_value

SLOWEST_S = 30
MOST_TEXT = 2000  # characters of a message
HARMLESS, NOTICED, SILENT, CRASHED = "harmless", "noticed", "silent", "crashed"
SURVIVED = (HARMLESS, NOTICED)
_PAGE = 512  # bytes that a disk zeroes at once; the files of the tests are small


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a mutation."""

    outcome: str
    """``harmless`` (the result is that of the whole files), ``noticed`` (one line says it), ``silent`` (another
    result without a word) or ``crashed`` (an error without a line of its own, or no end)."""
    text: str = ""
    """The message, or what differs."""


class _EndlessError(BaseException):
    """A use that took longer than ``SLOWEST_S``; no handler of errors catches it."""


def judge(use: Callable[[], Any], expected: Any) -> Verdict:
    """Use what was mutated, and compare its result with that of the whole files."""
    try:
        with _limited_time():
            result = use()
    except ValueError as error:
        text = str(error)
        told = text and "\n" not in text and len(text) < MOST_TEXT and text.isprintable()
        return Verdict(outcome=NOTICED if told else CRASHED, text=text if told else f"no line: {text!r:.300}")
    except _EndlessError:
        return Verdict(outcome=CRASHED, text=f"no end after {SLOWEST_S} s")
    except Exception as error:
        if line := explain_storage_error(error):
            return Verdict(outcome=NOTICED, text=line)
        return Verdict(outcome=CRASHED, text=f"{type(error).__name__}: {error!s:.300}")
    same = result == expected
    return Verdict(outcome=HARMLESS if same else SILENT, text="" if same else "another result")


@contextmanager
def _limited_time() -> Iterator[None]:
    def end(*_: object) -> None:
        raise _EndlessError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, SLOWEST_S)
    faulthandler.dump_traceback_later(2 * SLOWEST_S, exit=True)  # compiled code hears no signal
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def mutate_folder(folder: Path, rng: np.random.Generator, *, pattern: str = "*") -> str:
    """Damage one file below a folder, and return what was done.

    Args:
        folder: the folder.
        rng: draws the file and the damage.
        pattern: names of the files to damage.
    """
    while True:
        files = sorted(path for path in folder.rglob(pattern) if path.is_file())
        file = files[int(rng.integers(len(files)))]
        kinds = [*BYTES, *BYTES[:2], *ENTRIES] + [_change_json] * 3 * (file.suffix == ".json")
        kinds += [_double_row] * 2 * (file.suffix == ".parquet")
        kind = kinds[int(rng.integers(len(kinds)))]
        before = file.read_bytes()
        detail = kind(file, rng)
        if not file.is_file() or file.is_symlink() or file.read_bytes() != before:
            return f"{kind.__name__.strip('_').replace('_', ' ')} {file.relative_to(folder)}{detail}"


def _flip_bit(file: Path, rng: np.random.Generator) -> str:
    data = bytearray(file.read_bytes())
    place = int(rng.integers(len(data)))
    data[place] ^= 1 << int(rng.integers(8))
    file.write_bytes(data)
    return f" at {place} of {len(data)}"


def _cut(file: Path, rng: np.random.Generator) -> str:
    data = file.read_bytes()
    place = int(rng.integers(1, len(data)))
    file.write_bytes(data[:place])
    return f" to {place} of {len(data)}"


def _swap_blocks(file: Path, rng: np.random.Generator) -> str:
    data = bytearray(file.read_bytes())
    size = int(rng.integers(1, max(2, len(data) // 4)))
    one, other = (int(each) for each in rng.integers(0, max(1, len(data) - size), 2))
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]
    file.write_bytes(data)
    return f" of {size} at {one} and {other}"


def _zero_page(file: Path, rng: np.random.Generator) -> str:
    data = bytearray(file.read_bytes())
    place = int(rng.integers(0, len(data))) // _PAGE * _PAGE
    data[place : place + _PAGE] = bytes(len(data[place : place + _PAGE]))
    file.write_bytes(data)
    return f" at {place} of {len(data)}"


def _append(file: Path, rng: np.random.Generator) -> str:
    file.write_bytes(file.read_bytes() + rng.bytes(int(rng.integers(1, 64))))
    return ""


def _empty(file: Path, rng: np.random.Generator) -> str:
    file.write_bytes(b"")
    return ""


BYTES = [_flip_bit, _cut, _flip_bit, _swap_blocks, _zero_page, _append, _empty]
"""Damage to the bytes of a file."""


def _delete(file: Path, rng: np.random.Generator) -> str:
    file.unlink()
    return ""


def _rename(file: Path, rng: np.random.Generator) -> str:
    name = f"{file.stem[:-1]}{int(rng.integers(2, 10))}{file.suffix}"
    file.rename(file.with_name(name))
    return f" to {name}"


def _swap_files(file: Path, rng: np.random.Generator) -> str:
    others = [path for path in file.parent.iterdir() if path.is_file() and path != file and path.suffix == file.suffix]
    if not others:
        return ""
    other = others[int(rng.integers(len(others)))]
    data = other.read_bytes()
    other.write_bytes(file.read_bytes())
    file.write_bytes(data)
    return f" with {other.name}"


def _replace_by_link(file: Path, rng: np.random.Generator) -> str:
    target = ["/dev/zero", "/dev/null", "/nowhere/at/all", str(file), "/etc/hostname", "/etc"][int(rng.integers(6))]
    file.unlink()
    file.symlink_to(target)
    return f" to {target}"


def _replace_by_pipe(file: Path, rng: np.random.Generator) -> str:
    file.unlink()
    os.mkfifo(file)
    return ""


def _replace_by_folder(file: Path, rng: np.random.Generator) -> str:
    file.unlink()
    file.mkdir()
    return ""


ENTRIES = [_delete, _rename, _swap_files, _replace_by_link, _replace_by_pipe, _replace_by_folder]
"""Damage to the entry of a file in its folder."""


def _change_json(file: Path, rng: np.random.Generator) -> str:
    text = json.dumps(change_value(json.loads(file.read_text()), rng))
    if rng.random() < 0.1:
        text = text.replace(":", ": " + "[" * 50_000 + "]" * 50_000 + ', "more":', 1)
    file.write_text(text)
    return ""


def _double_row(file: Path, rng: np.random.Generator) -> str:
    """Write a Parquet file again with one of its rows twice, and its checksums and metadata whole."""
    table = pq.read_table(file)
    row = int(rng.integers(table.num_rows))
    place = int(rng.integers(table.num_rows))
    table = pa.concat_tables([table.slice(0, place), table.slice(row, 1), table.slice(place)])
    if rng.random() < 0.5:
        table = table.slice(1)
    pq.write_table(table, file, compression="NONE", write_page_checksum=True)
    return f" {row} at {place}"


def copied(base: Path, folder: Path) -> Path:
    """Return a copy of a folder, with the times of its files."""
    if folder.exists():
        shutil.rmtree(folder)
    return Path(shutil.copytree(base, folder, symlinks=True))
