"""Names of files as people and tools spell them: matched exactly, or in another spelling where only one file fits."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable

from fss.collection.sources.walk import stem_and_suffix


def normalized(name: str) -> str:
    """Return a relative name with forward slashes and composed Unicode (NFC), as most tools write it."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")


class NameIndex:
    """Relative paths, found by the names that annotation files use.

    A name is compared as it is, without its suffix, by its last component, and in lower case. A spelling counts only
    where it belongs to a single path.
    """

    def __init__(self, paths: Iterable[str]):
        """Index relative paths with forward slashes."""
        paths = list(paths)
        self._levels: list[tuple[Callable[[str], str], dict[str, str | None]]] = []
        for spell in (normalized, _stem, _base, _base_stem, _folded, _folded_stem):
            owners: dict[str, list[str]] = defaultdict(list)
            for path in paths:
                owners[spell(path)].append(path)
            self._levels.append((spell, {key: one[0] if len(one) == 1 else None for key, one in owners.items()}))

    def find(self, name: str) -> str | None:
        """Return the path that a name means; None if no path fits, or several do equally well."""
        for spell, owners in self._levels:
            key = spell(name)
            if key in owners:
                return owners[key]
        return None


def _stem(name: str) -> str:
    return stem_and_suffix(normalized(name))[0]


def _base(name: str) -> str:
    return normalized(name).rsplit("/", 1)[-1]


def _base_stem(name: str) -> str:
    return _stem(name).rsplit("/", 1)[-1]


def _folded(name: str) -> str:
    return _base(name).casefold()


def _folded_stem(name: str) -> str:
    return _base_stem(name).casefold()
