"""Photographs with the annotation files of labelme, ``<name>.json`` (https://github.com/wkentaro/labelme).

A file belongs to the photograph that its ``imagePath`` names, or else to the one of the file's own name beside it.
Without such a photograph, the picture in ``imageData`` is used. Labels are classes 1, 2, ... in the order of their
names; those called background, void or ignored are no classes. A photograph without a file has no mask, and a file
without shapes is an empty mask. All files are read for the listing, about 3,000 of 4 kB in a second of one core.
"""

import base64
import binascii
import json
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from fss.collection.config import SourceConfig
from fss.collection.sources.base import Listing, RawItem, SourceItem
from fss.collection.sources.class_lists import role_of
from fss.collection.sources.labelme_shapes import class_label, paint_shapes
from fss.collection.sources.names import NameIndex, normalized
from fss.collection.sources.pairing import LISTED
from fss.collection.sources.reading import read_bytes, read_pair
from fss.collection.sources.walk import Tree, is_photograph, stem_and_suffix, walk
from fss.core.printable import printable
from fss.images.decode import inspect_image
from fss.images.decode_errors import DecodeError
from fss.images.labels import LabelMask
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import MAX_CLASS_ID

SUFFIX = ".json"
_READERS = 16  # concurrent reads of the listing: hides the latency of an object store
_CHUNK = 1000  # files whose contents may be in memory at a time
_BASE64 = 2  # a file with imageData may be this many times as large as the photograph


@dataclass(frozen=True, slots=True)
class _Head:
    """What the listing needs of an annotation file."""

    image_path: str = ""
    labels: frozenset[str] = frozenset()
    embedded: bool = False
    error: str | None = None


def list_items(config: SourceConfig) -> Listing:
    """List the photographs, and read the labels of all annotation files.

    Raises:
        ValueError: the folder is missing or has no annotation files, or there are too many labels.
    """
    tree = walk(config.path, config.link_roots)
    heads = dict(_read_heads(tree, [path for path in tree.uris if path.lower().endswith(SUFFIX)]))
    if not any(head.error is None for head in heads.values()):
        damaged = next((f"; {head.error}" for head in heads.values()), "")
        raise ValueError(
            f"{config.path} has no annotation files of labelme, <name>.json with shapes and imagePath{damaged}"
        )
    present = sorted(set().union(*(head.labels for head in heads.values())))
    labels = [label for label in present if role_of(label) is None]
    if len(labels) >= MAX_CLASS_ID:
        raise ValueError(
            f"the files in {config.path} have {len(labels)} labels; at most {MAX_CLASS_ID - 1} are allowed"
        )
    class_ids = {label: number for number, label in enumerate(labels, start=1)}
    shared = json.dumps({"classes": class_ids})
    pictures = [path for path in tree.uris if is_photograph(path)]
    owners, rest = _pair(pictures, heads)
    embedded = [path for path in rest if heads[path].embedded]
    unmatched = [printable(path) for path in rest if not heads[path].embedded]
    items = [_item(tree, path, owners.get(path, []), heads, shared) for path in pictures]
    items += [
        SourceItem(relative_path=path, uri=tree.uris[path], mask_uri=tree.uris[path], annotation=shared)
        for path in embedded
    ]
    ignored = Counter(tree.ignored)
    ignored["other files"] += len(tree.uris) - len(pictures) - len(heads)
    ignored["annotation files without a photograph"] += len(unmatched)
    return Listing(
        items=sorted(items, key=lambda item: item.relative_path),
        labelled=True,
        classes={number: label for label, number in class_ids.items()},
        ignored=dict(+ignored),
        unmatched=tuple(unmatched[:LISTED]),
        notes=(*_embedded(len(embedded)), *_no_classes(present)),
        warnings=(*_other_photographs(owners, pictures), *_other_cases(labels)),
        shared_annotation=shared,
        sizes=tree.sizes,
    )


def read_item(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> RawItem:
    """Read a photograph and paint its shapes."""
    if not item.embedded:
        return read_pair(item, limits, lambda: _read_mask(item, limits))
    try:
        content = _load(item.uri, limits)
        data = base64.b64decode(content.get("imageData") or "", validate=True)
    except (DecodeError, TypeError, binascii.Error) as error:
        text = str(error) if isinstance(error, DecodeError) else f"corrupt: imageData is no base64: {error}"
        return RawItem(error=text, mask_error="no-image: the photograph cannot be read")
    try:
        return RawItem(data=data, label=_paint(content, item, data, limits))
    except DecodeError as error:
        return RawItem(data=data, mask_error=str(error))


def _read_mask(item: SourceItem, limits: DecodeLimits) -> LabelMask:
    assert item.mask_uri is not None
    return _paint(_load(item.mask_uri, limits), item, None, limits)


def _paint(content: Mapping[str, Any], item: SourceItem, data: bytes | None, limits: DecodeLimits) -> LabelMask:
    """Paint the shapes of a file; the size comes from the file, or from the photograph if the file has none."""
    assert item.annotation is not None
    sides = [content.get(key) for key in ("imageHeight", "imageWidth")]
    if sides == [None, None]:
        height, width, _ = inspect_image(read_bytes(item.uri, limits) if data is None else data, limits)
    elif all(type(side) is int and 1 <= side <= limits.max_side for side in sides):
        height, width = sides  # type: ignore[assignment]
    else:
        raise DecodeError("bad-size", f"imageHeight is {sides[0]!r:.20}, imageWidth is {sides[1]!r:.20}; give pixels")
    if height * width > limits.max_pixels:
        raise DecodeError("too-many-pixels", f"{width} x {height} pixels; at most {limits.max_pixels} are allowed")
    return paint_shapes(content.get("shapes"), (height, width), json.loads(item.annotation)["classes"], limits)


def _load(uri: str, limits: DecodeLimits) -> dict[str, Any]:
    """Return the contents of an annotation file.

    Raises:
        DecodeError: the file cannot be read, or is no JSON object.
    """
    most = _BASE64 * limits.max_bytes
    data = read_bytes(uri, replace(limits, max_bytes=most))
    if len(data) > most:
        raise DecodeError("too-many-bytes", f"the annotation file has more than {most} bytes")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        text = " ".join(str(error).split())[:200]
        raise DecodeError("bad-annotation", f"{printable(uri.rsplit('/', 1)[-1])} is no JSON: {text}") from error
    if not isinstance(content, dict):
        raise DecodeError("bad-annotation", f"{printable(uri.rsplit('/', 1)[-1])} is no JSON object")
    return content


def _read_heads(tree: Tree, paths: Sequence[str]) -> Iterator[tuple[str, _Head]]:
    """Yield the files that are labelme's, or may have been: JSON with shapes, and files that cannot be read."""
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            for path, head in zip(chunk, pool.map(_read_head, (tree.uris[path] for path in chunk)), strict=True):
                if head is not None:
                    yield path, head


def _read_head(uri: str) -> _Head | None:
    try:
        content = _load(uri, DecodeLimits())
    except DecodeError as error:
        return _Head(error=str(error))
    if "shapes" not in content:
        return None
    shapes, path = content["shapes"], content.get("imagePath")
    labels = {class_label(shape) for shape in shapes} if isinstance(shapes, list) else set()
    return _Head(
        image_path=normalized(path) if isinstance(path, str) else "",
        labels=frozenset(label for label in labels if label is not None),
        embedded=isinstance(content.get("imageData"), str),
    )


def _pair(pictures: Sequence[str], heads: Mapping[str, _Head]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the annotation files of every photograph, and the files without one."""
    index, exact = NameIndex(pictures), {normalized(path): path for path in pictures}
    beside: dict[str, list[str]] = defaultdict(list)
    for path in pictures:
        beside[stem_and_suffix(path)[0]].append(path)
    owners: dict[str, list[str]] = defaultdict(list)
    rest = []
    for path, head in heads.items():
        photograph = exact.get(posixpath.normpath(posixpath.join(posixpath.dirname(normalized(path)), head.image_path)))
        if photograph is None and len(namesakes := beside[stem_and_suffix(path)[0]]) == 1:
            photograph = namesakes[0]
        if photograph is None and head.image_path:
            photograph = index.find(head.image_path)
        if photograph is None:
            rest.append(path)
        else:
            owners[photograph].append(path)
    return owners, rest


def _other_photographs(owners: Mapping[str, Sequence[str]], pictures: Sequence[str]) -> Iterator[str]:
    """Yield a warning if files beside a photograph of their name name another one, as copied files do."""
    stems = {stem_and_suffix(path)[0] for path in pictures}
    others = [
        (path, photograph)
        for photograph, files in owners.items()
        for path in files
        if stem_and_suffix(path)[0] in stems - {stem_and_suffix(photograph)[0]}
    ]
    if others:
        path, photograph = others[0]
        yield (
            f"the imagePath of {len(others)} files is not the photograph of their name, and it counts: "
            f"{printable(path)} has {printable(photograph)}; correct imagePath if the files were copied"
        )


def _embedded(count: int) -> Iterator[str]:
    if count:
        yield f"{count} photographs come from imageData, since their files are missing"


def _no_classes(labels: Sequence[str]) -> Iterator[str]:
    """Yield a note on labels that are no classes by their names, those that labelme reserves aside."""
    others = [label for label in labels if role_of(label) and not label.startswith("_")]
    if others:
        listed = ", ".join(map(repr, others))
        yield f"the labels {listed} stand for background or ignored pixels; rename them if they are classes"


def _other_cases(labels: Sequence[str]) -> Iterator[str]:
    """Yield a warning if labels differ in upper and lower case only."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        groups[label.casefold()].append(label)
    for group in groups.values():
        if len(group) > 1:
            yield f"the labels {', '.join(map(repr, group))} are different classes; spell them alike if they are one"


def _item(tree: Tree, photograph: str, files: Sequence[str], heads: Mapping[str, _Head], annotation: str) -> SourceItem:
    item = SourceItem(relative_path=photograph, uri=tree.uris[photograph])
    if len(files) > 1:
        names = ", ".join(printable(path) for path in files[:LISTED])
        return replace(item, mask_error=f"several-masks: {names} belong to it; keep one")
    if not files:
        return item
    if heads[files[0]].error is not None:
        return replace(item, mask_error=heads[files[0]].error)
    return replace(item, mask_uri=tree.uris[files[0]], annotation=annotation)
