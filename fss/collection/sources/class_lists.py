"""Lists of classes as files: names, with ids or colours where the file has them.

Three forms exist, and each is told by its contents:

    labelmap.txt of CVAT and Datumaro    cup:128,0,0::          label, colour (may be empty), parts, actions
    CSV, with or without a header        cup,128,0,0   1,cup    name,r,g,b   r,g,b,name   id,name[,r,g,b][,...]
    plain text                           cup    1 cup    1: cup one name per line, with or without ids

``label_colors.txt`` of CamVid (``128 0 0 cup``) is read as well. Where a file has no ids, the id of a class is its
position: 0, 1, 2, ... Lines that start with # are comments.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fss.core import storage
from fss.images.mask_codec import MAX_CLASS_ID

Color = tuple[int, int, int]
Role = Literal["background", "void"]
"""What a name stands for that is no class: no class, or ignored pixels."""

BACKGROUND_NAMES = frozenset({"background", "_background_", "__background__", "bg"})
"""Names of the class that stands for no class, in lower case."""
VOID_NAMES = frozenset({"void", "ignore", "ignored", "__ignore__", "unlabelled", "unlabeled"})
"""Names of classes to ignore, in lower case."""
_MAX_BYTES = 2**24
_MAX_LINE = 1000  # characters
_COLORED_LINE = re.compile(r"(.+?)\s*:\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*(?::.*)?")
_LABELMAP_LINE = re.compile(r"([^:]+?)\s*:[^:]*:[^:]*:[^:]*")
_CAMVID_LINE = re.compile(r"(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+(\S.*)")
_NUMBERED_LINE = re.compile(r"(\d{1,5})(?:\s*:\s*|\s+)(\D.*)")
_MARKUP = ("<!doctype", "<html", "<?xml")  # what a failed download leaves
_CSV_LINE = re.compile(r"\d+\s*[,;\t].+|.+(?:[,;\t]\s*\d+\s*){3}")
_COLUMNS = {
    "id": ("id", "class_id", "class id", "label_id", "index", "value", "pixel value", "pixel_value"),
    "name": ("name", "class", "class_name", "class name", "label", "label_name", "category"),
    "r": ("r", "red"),
    "g": ("g", "green"),
    "b": ("b", "blue"),
}
_HEADERS = frozenset(name for names in _COLUMNS.values() for name in names)


@dataclass(frozen=True)
class ClassEntry:
    """One class of a list."""

    class_id: int
    """Class id."""
    name: str
    """Name, never empty."""
    color: Color | None = None
    """Colour (red, green, blue); None if the file gives none."""


@dataclass(frozen=True)
class ClassList:
    """Classes of a file, in its order."""

    file: str
    """Name of the file, for messages."""
    entries: tuple[ClassEntry, ...]
    """Classes with different ids, names and colours; at least one."""

    @property
    def has_colors(self) -> bool:
        """Whether every class has a colour."""
        return all(entry.color is not None for entry in self.entries)

    @property
    def background(self) -> int | None:
        """Id of the class whose name says background; None without one."""
        return next((one.class_id for one in self.entries if role_of(one.name) == "background"), None)

    @property
    def void(self) -> tuple[int, ...]:
        """Ids of the classes whose names say that they are to be ignored."""
        return tuple(entry.class_id for entry in self.entries if role_of(entry.name) == "void")


def role_of(name: str) -> Role | None:
    """Return what a name stands for, in upper or lower case; None: a class."""
    if name.casefold() in BACKGROUND_NAMES:
        return "background"
    return "void" if name.casefold() in VOID_NAMES else None


def role_notes(what: str, names: Mapping[Role, Sequence[str]]) -> list[str]:
    """Return what is to be known about the names of a file that stand for no classes.

    Args:
        what: what the file calls them, in the plural.
        names: the names, quoted, by what they stand for.
    """
    meanings: dict[Role, str] = {"background": "no class, so their objects are background", "void": "ignored pixels"}
    return [
        f"the {what} {', '.join(names[role])} stand for {meaning}; rename them in the file if they are classes"
        for role, meaning in meanings.items()
        if names[role]
    ]


def read_class_list(uri: str) -> ClassList:
    """Read a class list.

    Raises:
        ValueError: the file cannot be read, or is no class list.
    """
    try:
        data = storage.read_bytes(uri, limit=_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"the class list {uri} cannot be read: {error.strerror or error}") from error
    return parse_class_list(data, uri)


def parse_class_list(data: bytes, file: str) -> ClassList:
    """Parse a class list.

    Args:
        data: contents of the file, as UTF-8 with or without a byte order mark.
        file: name for messages; a suffix .csv makes it CSV.

    Raises:
        ValueError: the contents are no class list; the message names the line.
    """
    if len(data) > _MAX_BYTES:
        raise ValueError(f"{file} is no class list: it has more than {_MAX_BYTES} bytes")
    try:
        lines = re.split(r"\r\n|\r|\n", data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no class list: it is no UTF-8 text; save it as UTF-8") from error
    if any("\0" in line for line in lines):
        raise ValueError(f"{file} is no class list: it has bytes that are zero; save it as UTF-8 text")
    filled = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    filled = [(number, line) for number, line in filled if line and not line.startswith("#")]
    if filled and filled[0][1].lower().startswith(_MARKUP):
        raise ValueError(f"{file} is no class list, but a page of the web; download the file itself")
    for number, line in filled:
        if len(line) > _MAX_LINE:
            raise ValueError(f"{file}, line {number}: {len(line)} characters are too many for a class")
    return ClassList(file, _entries(_rows(filled, file), file))


def _rows(lines: Sequence[tuple[int, str]], file: str) -> Iterator["_Row"]:
    first = lines[0][1] if lines else ""
    if file.lower().endswith(".csv") or (_CSV_LINE.fullmatch(first) and not _COLORED_LINE.fullmatch(first)):
        return _csv_rows(lines, file)
    if any(_COLORED_LINE.fullmatch(line) or _LABELMAP_LINE.fullmatch(line) for _, line in lines):
        return _text_rows(lines, _labelmap_row, "NAME:RED,GREEN,BLUE::", file)
    if _CAMVID_LINE.fullmatch(first):
        return _text_rows(lines, _camvid_row, "RED GREEN BLUE NAME", file)
    numbered = [_NUMBERED_LINE.fullmatch(line) for _, line in lines]
    ids = [int(match[1]) for match in numbered if match]
    if len(ids) == len(lines) == len(set(ids)):
        return iter(
            [
                (number, int(match[1]), match[2], None)
                for (number, _), match in zip(lines, numbered, strict=True)
                if match
            ]
        )
    return iter([(number, None, line, None) for number, line in lines])


_Row = tuple[int, int | None, str, Sequence[str] | None]  # line, id, name, colour as text


def _labelmap_row(line: str) -> tuple[str, Sequence[str] | None] | None:
    if match := _COLORED_LINE.fullmatch(line):
        return match[1], match.group(2, 3, 4)
    match = _LABELMAP_LINE.fullmatch(line)
    return None if match is None or line.split(":")[1].strip() else (match[1], None)


def _camvid_row(line: str) -> tuple[str, Sequence[str] | None] | None:
    match = _CAMVID_LINE.fullmatch(line)
    return (match[4], match.group(1, 2, 3)) if match else None


def _text_rows(
    lines: Sequence[tuple[int, str]],
    parse: Callable[[str], tuple[str, Sequence[str] | None] | None],
    form: str,
    file: str,
) -> Iterator[_Row]:
    for number, line in lines:
        parsed = parse(line)
        if parsed is None:
            raise ValueError(f"{file}, line {number}: {line[:80]!r} has not the form {form}")
        yield number, None, *parsed


def _csv_rows(lines: Sequence[tuple[int, str]], file: str) -> Iterator[_Row]:
    """Yield the rows of a CSV."""
    if not lines:
        return
    delimiter = max(",;\t", key=lines[0][1].count)
    cells = []
    for number, line in lines:
        try:
            (row,) = csv.reader(io.StringIO(line), delimiter=delimiter, skipinitialspace=True, strict=True)
        except (csv.Error, ValueError) as error:
            raise ValueError(f"{file}, line {number}: {line[:80]!r} is no line of CSV: {error}") from error
        cells.append((number, [cell.strip() for cell in row]))
    columns, has_header = _columns(cells)
    if columns["name"] is None:
        raise ValueError(f"{file}, line {lines[0][0]}: no column has the names; the forms are name,r,g,b and id,name")
    for number, row in cells[has_header:]:
        yield number, *_csv_row(row, columns, number, file)


def _columns(rows: Sequence[tuple[int, Sequence[str]]]) -> tuple[dict[str, int | None], bool]:
    """Return the columns of a CSV, and whether its first row is a header: a row without numbers above one with some."""
    header = [cell.casefold() for cell in rows[0][1]]
    numbers_below = len(rows) > 1 and any(cell.isdecimal() for cell in rows[1][1])
    if any(cell.isdecimal() for cell in header) or not (numbers_below or _HEADERS.intersection(header)):
        return _guessed_columns(rows[0][1]), False
    columns = {
        key: next((header.index(name) for name in names if name in header), None) for key, names in _COLUMNS.items()
    }
    return (_guessed_columns(rows[1][1]) if columns["name"] is None and numbers_below else columns), True


def _guessed_columns(row: Sequence[str]) -> dict[str, int | None]:
    """Return the columns of a CSV without a header, by a row with values."""
    numeric = [cell.isdecimal() for cell in row]
    columns: dict[str, int | None] = dict.fromkeys(_COLUMNS)
    if numeric[:4] == [True, True, True, False]:
        return {**columns, "r": 0, "g": 1, "b": 2, "name": 3}
    start = 1 if numeric[0] else 0
    columns |= {"id": 0 if start else None, "name": start if not all(numeric[: start + 1]) else None}
    if numeric[start : start + 4] == [False, True, True, True]:
        columns |= {"r": start + 1, "g": start + 2, "b": start + 3}
    return columns


def _csv_row(
    row: Sequence[str], columns: dict[str, int | None], number: int, file: str
) -> tuple[int | None, str, Sequence[str] | None]:
    texts = {key: row[column] for key, column in columns.items() if column is not None and column < len(row)}
    missing = [key for key, column in columns.items() if column is not None and key not in texts]
    if missing:
        raise ValueError(f"{file}, line {number}: {len(row)} values, and no value for {', '.join(missing)}")
    class_id = None
    if "id" in texts:
        class_id = _number(texts["id"], MAX_CLASS_ID)
        if class_id is None:
            raise ValueError(f"{file}, line {number}: the id {texts['id'][:40]!r} is no number in 0..{MAX_CLASS_ID}")
    color = [texts[key] for key in "rgb"] if texts.keys() >= set("rgb") else None
    return class_id, texts["name"], color


def _entries(rows: Iterator[_Row], file: str) -> tuple[ClassEntry, ...]:
    entries: list[ClassEntry] = []
    lines: dict[object, int] = {}
    shift = 0
    for number, given_id, text, color_text in rows:
        name = unicodedata.normalize("NFC", text.strip())
        if not name:
            raise ValueError(f"{file}, line {number}: the class has no name")
        if not entries and given_id is None and color_text is None and name == "__ignore__" and not shift:
            shift = 1  # labelme's labels.txt starts with it, and its ids with -1
            continue
        class_id = len(entries) if given_id is None else given_id
        color = None if color_text is None else _color(color_text, number, file)
        for what, key in (("id", class_id), ("name", name), ("colour", color)):
            if key is not None and (earlier := lines.setdefault((what, key), number)) != number:
                raise ValueError(f"{file}, line {number}: the {what} {key!r} is that of line {earlier} too; keep one")
        entries.append(ClassEntry(class_id, name, color))
    if not entries:
        raise ValueError(f"{file} is no class list: it has no classes")
    if len(entries) > MAX_CLASS_ID:
        raise ValueError(f"{file} is no class list: it has {len(entries)} lines; at most {MAX_CLASS_ID} are allowed")
    return tuple(entries)


def _color(texts: Sequence[str], number: int, file: str) -> Color:
    values = [_number(text, 255) for text in texts]
    if None in values:
        raise ValueError(f"{file}, line {number}: the colour {','.join(texts)[:40]!r} is not three numbers in 0..255")
    red, green, blue = values
    assert red is not None and green is not None and blue is not None
    return red, green, blue


def _number(text: str, largest: int) -> int | None:
    """Return a whole number in 0..largest; None for any other text."""
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) and int(text) <= largest else None
