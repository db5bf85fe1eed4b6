"""Detection of masks among the pictures of a folder that is about to be ingested as photographs."""

import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fss.collection.sources.names import normalized
from fss.collection.sources.walk import Tree, stem_and_suffix
from fss.core import storage
from fss.core.printable import printable
from fss.images.decode_errors import DecodeError
from fss.images.label_samples import LabelPicture, decode_label_picture
from fss.images.limits import DecodeLimits

_KINDS = 8  # kinds of names in a folder; more are names of things
_GROUPS, _PER_GROUP = 24, 4  # pictures to open: few enough for an object store
_FEW_LEVELS = 40  # of the values or colours of a lossless label picture; photographs have hundreds
_TWO_TONES = 0.98  # share of pixels near black and white in a lossy mask
_SHARE = 0.75  # of a group's opened pictures
_EQUAL_NAMES, _TWINS = 0.9, 4  # share and least number of equal names
_LOSSY = {".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".heic", ".heif", ".avif"}

_Group = tuple[str, str, str]
"""Folder, file suffix and kind of name of pictures that are probably of one kind."""
_Groups = Mapping[_Group, list[str]]


def refuse_masks(tree: Tree, pictures: Sequence[str]) -> None:
    """Refuse a folder some of whose pictures look like masks, which would become photographs.

    A few pictures of each folder and file type are opened.

    Raises:
        ValueError: pictures of one kind mostly have two or a few values. The message holds the settings that say where
            the masks are, and those that take all pictures as photographs.
    """
    groups = _group(pictures)
    names = sorted(groups)
    chosen = names if len(names) <= _GROUPS else [names[i] for i in np.linspace(0, len(names) - 1, _GROUPS).astype(int)]
    samples = {name: groups[name][:: -(-len(groups[name]) // _PER_GROUP) | 1] for name in chosen}
    with ThreadPoolExecutor(8) as pool:
        looks = list(pool.map(lambda paths: _share_of_masks(tree, paths), samples.values()))
    alike = [group for group, share in zip(samples, looks, strict=True) if share is not None and share >= _SHARE]
    masks = alike[0] if alike else None
    if masks is not None:
        what, settings = "have two or a few values", _settings(_partner(masks, groups, alike), masks, groups)
    elif twins := _twins(groups):
        what, settings = f"have the names of {groups[twins[0]][0]} and others", _settings(*twins, groups)
        masks = twins[1]
    else:
        return
    raise ValueError(
        f"pictures such as {printable(groups[masks][0])} {what}, so they look like masks; give {settings} to take them "
        "as masks, or --source.images . to take all pictures as photographs"
    )


def _group(pictures: Sequence[str]) -> dict[_Group, list[str]]:
    """Group pictures by folder and file suffix, and by the words around a number where there are a few kinds."""
    groups: dict[_Group, list[str]] = {}
    by_type: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in pictures:
        words = re.split(r"[ _.-]+|(?<=\D)(?=\d)|(?<=\d)(?=\D)", _name(path))
        kind = " ".join(word for word in (words[0], words[-1]) if word.isalpha() and len(words) > 1)
        by_type[path.rpartition("/")[0], stem_and_suffix(path)[1]][kind].append(path)
    for (folder, suffix), kinds in by_type.items():
        if len(kinds) > _KINDS:
            kinds = {"": sorted(path for paths in kinds.values() for path in paths)}
        groups |= {(folder, suffix, kind): paths for kind, paths in kinds.items()}
    return groups


def _share_of_masks(tree: Tree, paths: Sequence[str]) -> float | None:
    """Return the share of pictures that look like masks; None if none can tell."""
    looks = [look for path in paths if (look := _looks_like_mask(tree.uris[path])) is not None]
    return sum(looks) / len(looks) if looks else None


def _looks_like_mask(uri: str) -> bool | None:
    """Return whether a picture has two or a few values; None if it is of one value, or cannot be read."""
    limits = DecodeLimits()
    try:
        picture = decode_label_picture(storage.read_bytes(uri, limits.max_bytes + 1), limits)
    except DecodeError as error:
        return False if error.reason == "unsupported" else None
    except OSError:
        return None
    values = picture.values if picture.values is not None else picture.packed_colors
    if int(values.min()) == int(values.max()):
        return None
    few = not picture.lossy and len(np.unique(values)) <= _FEW_LEVELS
    return few or _has_two_tones(picture)


def _has_two_tones(picture: LabelPicture) -> bool:
    if picture.values is None:
        return False
    near_black, near_white = (picture.values < 16).mean(), (picture.values > 239).mean()
    return bool(near_black + near_white >= _TWO_TONES and near_black > 0 and near_white > 0)


def _twins(groups: _Groups) -> tuple[_Group, _Group] | None:
    """Return photographs in a lossy format and pictures of equal names in a lossless one; None if there are none."""
    names = {group: {_name(path) for path in paths} for group, paths in groups.items()}
    lossy = [group for group in groups if group[1] in _LOSSY]
    for group, stems in names.items():
        if group[1] not in _LOSSY and len(stems) >= _TWINS:
            for other in lossy:
                if len(stems & names[other]) >= _EQUAL_NAMES * max(len(stems), len(names[other])):
                    return other, group
    return None


def _partner(group: _Group, groups: _Groups, alike: Sequence[_Group]) -> _Group | None:
    """Return the other group, none of masks alike, whose names equal most of the group's, the same folder first."""
    stems = {_name(path) for path in groups[group]}
    for other in sorted(groups, key=lambda other: (other[0] != group[0], other)):
        if other not in alike and len(stems & {_name(path) for path in groups[other]}) >= _EQUAL_NAMES * len(stems):
            return other
    return None


def _settings(photographs: _Group | None, masks: _Group, groups: _Groups) -> str:
    """Return the settings that would read these masks."""
    folder = shlex.quote(masks[0] or ".")
    if photographs is None and (ending := _ending(masks, groups)):
        return f"--source.mask-suffix={shlex.quote(ending)}"
    if photographs is None and any(group[0] == masks[0] != "" for group in groups if group != masks):
        return "--source.mask-suffix TEXT, for names such as 1.jpg and 1TEXT.png,"
    if photographs is None:
        return f"--source.images FOLDER --source.mask-folder {folder}"
    if photographs[0] != masks[0]:
        return f"--source.images {shlex.quote(photographs[0] or '.')} --source.mask-folder {folder}"
    one_level = all(folder and "/" not in folder for folder, _, _ in groups)
    return "--source.kind fss1000" if one_level else f"--source.mask-suffix {masks[1]}"


def _ending(masks: _Group, groups: _Groups) -> str | None:
    """Return the text that the masks have after the names of photographs in their folder; None if there is none."""
    others = {_name(path) for group, paths in groups.items() if group[0] == masks[0] for path in paths}
    others -= {_name(path) for path in groups[masks]}
    endings = set()
    for name in map(_name, groups[masks][:_PER_GROUP]):
        endings.add(next((name[end:] for end in range(len(name) - 1, 0, -1) if name[:end] in others), None))
    return endings.pop() if len(endings) == 1 else None


def _name(path: str) -> str:
    return normalized(stem_and_suffix(path)[0]).rpartition("/")[2]
