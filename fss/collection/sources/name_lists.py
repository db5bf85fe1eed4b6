"""Lists of photographs as data sets have them: one name per line, as people and tools spell them."""

import re
from collections.abc import Collection

from fss.collection.sources.names import NameIndex
from fss.core import storage

_SHOWN = 3  # names of each side in a message


def read_name_list(uri: str, names: Collection[str]) -> set[str]:
    """Return the names in a list; a name that fits one of ``names`` comes in its spelling.

    A name may have a folder or a suffix. A second column with -1 leaves the photograph out, as in VOC's lists of a
    class; other columns have no meaning.

    Args:
        uri: list as UTF-8 text, with or without a byte order mark.
        names: names of the photographs.

    Raises:
        ValueError: the list is no text.
    """
    try:
        text = storage.read_bytes(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{uri} is no list of names: it is no UTF-8 text; save it as UTF-8") from error
    index = NameIndex(names)
    listed = set()
    for line in filter(None, map(str.strip, re.split(r"[\r\n]+", text))):
        name, flag = line, ""
        if len(line.split()) > 1 and index.find(line) is None:
            name, flag = line.split()[:2]
        if flag != "-1":
            listed.add(index.find(name) or name)
    return listed


def check_names(lists: str, listed: Collection[str], names: Collection[str]) -> None:
    """Refuse lists of other photographs than there are.

    Args:
        lists: files of the lists, for the message.
        listed: names in the lists.
        names: names of the photographs.

    Raises:
        ValueError: the lists have names, and none is that of a photograph.
    """
    if listed and not set(listed).intersection(names):
        raise ValueError(
            f"{lists} names no photograph: it has {', '.join(sorted(listed)[:_SHOWN])}, the folder has "
            f"{', '.join(sorted(names)[:_SHOWN])}; restore the names of the files, or the list"
        )
