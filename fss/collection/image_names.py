"""Names of photographs in files of other programs: relative to a folder on the way out, matched on the way in."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fss.collection import source_listing
from fss.collection.collection import Collection
from fss.collection.schema import valid_text
from fss.collection.sources.names import normalized
from fss.core import storage


@dataclass(frozen=True, kw_only=True)
class ImageRoot:
    """The folder that exported names are relative to."""

    uri: str
    """Local folder or s3:// URI; empty if the photographs have no folder."""

    def relative(self, uri: str) -> str:
        """Return the path of a photograph relative to the folder.

        Raises:
            ValueError: the photograph lies outside of the folder.
        """
        prefix = f"{self.uri.rstrip('/')}/" if self.uri else ""
        if not uri.startswith(prefix):
            raise ValueError(
                f"the photograph {uri} lies outside of the image root {self.uri}; give a folder that contains all "
                "photographs as --image-root, or leave --image-root out"
            )
        return uri.removeprefix(prefix)


def find_image_root(collection: Collection) -> ImageRoot:
    """Return the folder that the collection's source names if it holds all photographs, else the deepest one that does.

    The source's listing tells the folder, since its setting may be relative to another working directory.
    """
    folders: set[str] = set()
    for part in collection.part_names():
        folders |= {uri.rpartition("/")[0] for uri in collection.read_part(part, ["uri"]).column("uri").to_pylist()}
    root = _common_folder(set(_source_roots(collection)))
    holds_all = all(f"{folder}/".startswith(f"{root}/") for folder in folders)
    return ImageRoot(uri=root if root and holds_all else _common_folder(folders))


def choose_image_root(uri: str) -> ImageRoot:
    """Return the folder that a user chose.

    Raises:
        ValueError: it is neither a local folder nor an s3:// URI.
    """
    return ImageRoot(uri=storage.absolute_uri(uri))


def clean_path(name: str) -> str:
    """Return a name as :func:`fss.collection.sources.names.normalized` does, without empty and ``.`` components."""
    return "/".join(part for part in normalized(name).split("/") if part not in ("", "."))


def without_suffix(name: str) -> str:
    """Return a normalized name without its file suffix."""
    folder, slash, last = clean_path(name).rpartition("/")
    stem, dot, _ = last.rpartition(".")
    return f"{folder}{slash}{stem if dot and stem else last}"


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """A row of a collection."""

    image_id: str
    """Image id."""
    name: str
    """Path relative to the source."""


def usable_photographs(collection: Collection) -> list[Photograph]:
    """Return the usable photographs of a collection with their names below the source."""
    root = find_image_root(collection)
    photographs = []
    for part in collection.part_names():
        for row in collection.read_part(part, ["image_id", "uri", "error"]).to_pylist():
            if not row["error"]:
                photographs.append(Photograph(image_id=row["image_id"], name=root.relative(row["uri"])))
    return photographs


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Photographs of a collection, and the entries of a file that belong to them."""

    entries: dict[str, int]
    """Index of the entry by image id."""
    unmatched: tuple[int, ...]
    """Indices of the entries that no photograph fits."""
    ambiguous: tuple[int, ...]
    """Indices of the entries that fit several photographs, or share one with another entry."""


def match_images(
    photographs: Sequence[Photograph], entries: Sequence[tuple[str | None, str]], *, any_suffix: bool = False
) -> Matches:
    """Match entries of a file to photographs: by image id, then by name.

    The most trailing components of a path that fit any photograph decide; a last component alone decides only where it
    is unique. Names are compared normalized and without regard to case; if several photographs fit, those of the same
    case, then those of the very same characters are preferred. If several entries fit one photograph, the closest does.

    Args:
        photographs: rows of the collection.
        entries: image id, if the file has one, and name of each entry.
        any_suffix: whether names may differ in the file suffix, as those of masks do.
    """
    clean = without_suffix if any_suffix else clean_path
    known = {photograph.image_id for photograph in photographs}
    index = _SuffixIndex(photographs, clean)
    claims: dict[str, list[tuple[float, int]]] = defaultdict(list)  # image id: components that fit, entry
    unmatched: list[int] = []
    ambiguous: list[int] = []
    for number, (image_id, name) in enumerate(entries):
        if image_id in known:
            claims[str(image_id)].append((math.inf, number))
            continue
        depth, candidates = index.find(name)
        if len(candidates) == 1:
            claims[candidates[0]].append((depth, number))
        else:
            (ambiguous if candidates else unmatched).append(number)
    matched: dict[str, int] = {}
    for image_id, rivals in claims.items():
        best = max(depth for depth, _ in rivals)
        closest = [number for depth, number in rivals if depth == best]
        unmatched += [number for depth, number in rivals if depth < best]
        if len(closest) == 1:
            matched[image_id] = closest[0]
        else:
            ambiguous += closest
    return Matches(entries=matched, unmatched=tuple(sorted(unmatched)), ambiguous=tuple(sorted(ambiguous)))


class _SuffixIndex:
    """Photographs by every trailing part of their path."""

    def __init__(self, photographs: Sequence[Photograph], clean: Callable[[str], str]):
        self._photographs = photographs
        self._clean = clean
        self._rows: dict[str, list[int]] = defaultdict(list)
        for row, photograph in enumerate(photographs):
            for suffix in _trailing(clean(photograph.name).casefold()):
                self._rows[suffix].append(row)

    def find(self, name: str) -> tuple[int, list[str]]:
        """Return the number of components that fit, and the image ids that they fit."""
        cleaned = self._clean(name)
        for suffix in _trailing(cleaned.casefold()):
            if suffix in self._rows:
                depth = suffix.count("/") + 1
                return depth, self._closest(name, cleaned, depth, self._rows[suffix])
        return 0, []

    def _closest(self, name: str, cleaned: str, depth: int, rows: Sequence[int]) -> list[str]:
        names = {row: self._photographs[row].name for row in rows}
        same_case = [row for row in rows if _last(self._clean(names[row]), depth) == _last(cleaned, depth)]
        same = [row for row in same_case if _last(names[row], depth) == _last(name, depth)]
        closest = next((some for some in (same, same_case) if len(some) == 1), same_case or rows)
        return [self._photographs[row].image_id for row in closest]


def _trailing(path: str) -> Iterator[str]:
    """Yield ``a/b/c``, ``b/c`` and ``c`` of ``a/b/c``."""
    while path:
        yield path
        path = path.partition("/")[2]


def _last(path: str, depth: int) -> list[str]:
    return path.split("/")[-depth:]


def _source_roots(collection: Collection) -> Iterator[str]:
    """Yield the folder of every source: the URI of its first photograph without the relative path."""
    for index, source in enumerate(collection.metadata["sources"]):
        if not isinstance(source, Mapping) or "listing" not in source or not source.get("items"):
            continue
        item = source_listing.read(collection.uri, source_listing.listing_name(index, source), 0)[0]
        uri, path = valid_text(item.uri), valid_text(item.relative_path)
        if uri.endswith(f"/{path}"):
            yield uri.removesuffix(f"/{path}")


def _common_folder(folders: Iterable[str]) -> str:
    """Return the deepest folder that contains all given ones."""
    paths = [folder.split("/") for folder in sorted(set(folders))]
    if not paths:
        return ""
    shared = []
    for level in zip(*paths, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return "/".join(shared) if shared != [""] else "/"
