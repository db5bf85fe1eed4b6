"""Names of files as people and tools spell them: matched exactly, or in another spelling where only one file fits."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import takewhile

from fss.collection.sources.walk import stem_and_suffix


def normalized(name: str) -> str:
    """Return a relative name with forward slashes and composed Unicode (NFC), as most tools write it."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")


class NameIndex:
    """Relative paths, found by the names that annotation files use.

    A name is compared as it is, without its suffix, by its last component, and in lower case. Of several paths with one
    last component, the one counts whose last folders are most alike. A spelling counts only where it belongs to a
    single path.
    """

    def __init__(self, paths: Iterable[str]):
        """Index relative paths with forward slashes."""
        self._paths = list(paths)
        self._owners: dict[Callable[[str], str], dict[str, list[str]]] = {}  # made when a name needs them

    def find(self, name: str) -> str | None:
        """Return the path that a name means; None if no path fits, or several do equally well."""
        for spell in (normalized, _stem, _base, _base_stem, _folded, _folded_stem):
            if spell not in self._owners:
                owners: dict[str, list[str]] = defaultdict(list)
                self._owners[spell] = owners
                for path in self._paths:
                    owners[spell(path)].append(path)
            if found := self._owners[spell].get(spell(name)):
                return found[0] if len(found) == 1 else _closest(name, found)
        return None


def common_folders(name: str, path: str) -> int:
    """Return how many of the last folders of two names are equal."""
    pairs = zip(reversed(_folders(name)), reversed(_folders(path)), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _closest(name: str, paths: list[str]) -> str | None:
    """Return the path whose last folders are most like those of a name, at best all of them; None if several are."""
    counts = [common_folders(name, path) for path in paths]
    scores = [(count, count == len(_folders(path))) for path, count in zip(paths, counts, strict=True)]
    best = [path for path, score in zip(paths, scores, strict=True) if score == max(scores)]
    return best[0] if len(best) == 1 else None


def _folders(name: str) -> list[str]:
    return normalized(name).casefold().split("/")[:-1]


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
