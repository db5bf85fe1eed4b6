"""Pictures of an annotation file and the photographs that they mean."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from fss.collection.sources.coco_file import CocoFile, CocoPicture
from fss.collection.sources.names import NameIndex, common_folders, normalized
from fss.collection.sources.pairing import LISTED
from fss.collection.sources.walk import stem_and_suffix
from fss.core.printable import printable

_LONGEST = 120  # characters of a name in a message


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Photographs of an annotation file."""

    photographs: list[str]
    """Relative paths of the photographs, with and without objects."""
    pictures: Mapping[str, CocoPicture]
    """Picture of the file by relative path of its photograph."""
    unmatched: list[str]
    """Names in the file that fit no photograph."""
    warnings: list[str]
    """What looks wrong about the names."""
    mismatch: str | None
    """First names of both sides, if no name fits a photograph; None otherwise."""


def match_pictures(file: CocoFile, photographs: Sequence[str], folder: str | None) -> Matches:
    """Match the pictures of a file to photographs by their names.

    Args:
        file: annotation file.
        photographs: relative paths of all photographs of the source.
        folder: folder of the photographs. If no name fits there, or None, all photographs are tried, and those of
            folders with a photograph that fits belong to the file.

    Pictures of a file type that no photograph of the file has, such as masks, do not belong to it.
    """
    prefix = f"{folder}/" if folder else ""
    inside = [path for path in photographs if path.startswith(prefix)]
    claims, unmatched = _claims(file.pictures, inside, prefix)
    if not claims and prefix:
        claims, unmatched = _claims(file.pictures, photographs, "")
        inside = inside if not claims else list(photographs)
        prefix = prefix if not claims else ""
    if claims and not prefix:
        folders = {path.rpartition("/")[0] for path in claims}
        inside = [path for path in inside if path.rpartition("/")[0] in folders]
    types = {_type(path) for path in claims}
    inside = [path for path in inside if not claims or _type(path) in types]
    pictures = {}
    for path, rivals in claims.items():
        pictures[path], losers = _choose(rivals, path.removeprefix(prefix))
        unmatched += losers
    repeated = sum(len(rivals) for rivals in claims.values()) - len(claims)
    warning = f"{file.uri} lists {repeated} photographs more than once; objects of equal entries are joined"
    mismatch = (
        f"no file_name of {file.uri} fits a photograph: the file lists {_some(unmatched)}, and the photographs are "
        f"{_some(inside)}; give the folder of its photographs, or another file with --source.annotations FILE"
    )
    return Matches(
        photographs=inside,
        pictures=pictures,
        unmatched=unmatched,
        warnings=[warning] * bool(repeated),
        mismatch=mismatch if unmatched and not claims else None,
    )


def _claims(
    pictures: Sequence[CocoPicture], photographs: Sequence[str], prefix: str
) -> tuple[dict[str, list[CocoPicture]], list[str]]:
    """Return the pictures that mean a photograph by its path, and the names that fit none."""
    index = NameIndex(path.removeprefix(prefix) for path in photographs)
    claims: dict[str, list[CocoPicture]] = defaultdict(list)
    unmatched = []
    for picture in pictures:
        found = next((path for name in _spellings(picture.name) if (path := index.find(name)) is not None), None)
        if found is None:
            unmatched.append(picture.name)
        else:
            claims[prefix + found].append(picture)
    return claims, unmatched


def _spellings(name: str) -> Iterator[str]:
    """Yield a name as it is, and as the path in an address, such as ``/data/local-files/?d=my%20photographs/1.jpg``."""
    yield name
    if "%" in name or "?" in name:
        decoded = unquote(name)
        yield decoded.rpartition("?d=")[2]
        yield decoded.partition("?")[0]


def _choose(rivals: list[CocoPicture], path: str) -> tuple[CocoPicture, list[str]]:
    """Return the picture that means a photograph, and the names of the others.

    Entries of one name and size count as one. Of different names, the closest one counts.
    """
    if len(rivals) == 1:
        return rivals[0], []
    scores = [_closeness(picture.name, path) for picture in rivals]
    closest = [picture for picture, score in zip(rivals, scores, strict=True) if score == max(scores)]
    losers = [picture.name for picture, score in zip(rivals, scores, strict=True) if score < max(scores)]
    first = closest[0]
    names = sorted({normalized(picture.name) for picture in closest})
    if len(names) > 1 or any((one.height, one.width) != (first.height, first.width) for one in closest):
        spellings = " and as ".join(printable(name)[:_LONGEST] for name in names[:LISTED])
        sizes = " with different sizes" * (len(names) == 1)
        error = f"ambiguous-name: the annotation file lists the photograph as {spellings}{sizes}"
        return replace(first, error=error), losers
    merged = replace(
        first,
        error=next((one.error for one in closest if one.error), None),
        objects=[each for one in closest for each in one.objects],
    )
    for other in closest[1:]:
        merged.left_out = merged.left_out + other.left_out
    return merged, losers


def _closeness(name: str, path: str) -> tuple[bool, int, bool]:
    """Return how closely a name means a path: greater is closer."""
    name = normalized(name)
    return name == normalized(path), common_folders(name, path), name.rpartition("/")[2] == path.rpartition("/")[2]


def _type(path: str) -> str:
    """Return the file type of a picture by its suffix."""
    suffix = stem_and_suffix(path)[1]
    return ".jpg" if suffix == ".jpeg" else suffix


def _some(names: Sequence[str]) -> str:
    return ", ".join(printable(name)[:_LONGEST] for name in names[:LISTED]) or "none"
