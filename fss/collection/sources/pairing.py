"""Pairing of photographs and masks by the keys of their names, one to one."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fss.collection.sources.base import SourceItem
from fss.collection.sources.walk import Tree
from fss.core.printable import printable

LISTED = 5  # names in a message


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Photographs with their masks."""

    items: list[SourceItem]
    """Photographs in the order of their paths."""
    unmatched: list[str]
    """Relative paths of masks without a photograph."""
    warnings: tuple[str, ...]
    """Masks that several photographs claim, and photographs with several masks."""


def pair_masks(
    tree: Tree,
    photographs: Mapping[str, str],
    masks: Mapping[str, str],
    class_ids: Mapping[str, int] | None = None,
) -> Pairs:
    """Pair photographs and masks of equal keys, or of keys that differ in upper and lower case only.

    A photograph with several masks, and photographs that share one, get a reason instead of a mask: names cannot tell
    which is right.

    Args:
        tree: files of the source.
        photographs: key by relative path of a photograph.
        masks: key by relative path of a mask.
        class_ids: class id of the foreground by relative path of a photograph.
    """
    owners, folded = _by_key(masks), _by_key({path: key.casefold() for path, key in masks.items()})
    candidates = {path: owners.get(key) or folded.get(key.casefold(), []) for path, key in photographs.items()}
    claims: dict[str, list[str]] = defaultdict(list)
    for path, found in candidates.items():
        for mask in found:
            claims[mask].append(path)
    items, several, shared = [], [], []
    for path in sorted(photographs):
        error = None
        if len(candidates[path]) > 1:
            error = f"several-masks: {_some(candidates[path])} have its name; keep one"
            several.append(path)
        elif candidates[path] and len(claims[candidates[path][0]]) > 1:
            error = f"shared-mask: {_some(candidates[path])} has the name of {_some(claims[candidates[path][0]])}"
            shared.append(path)
        items.append(
            SourceItem(
                relative_path=path,
                uri=tree.uris[path],
                mask_uri=tree.uris[candidates[path][0]] if candidates[path] and error is None else None,
                mask_error=error,
                class_id=None if class_ids is None else class_ids[path],
            )
        )
    warnings = []
    if several:
        warnings.append(
            f"{len(several)} photographs have several masks, such as {_some(several[:1])}; keep one of each"
        )
    if shared:
        warnings.append(f"{len(shared)} photographs share a mask by their names, such as {_some(shared[:2])}; keep one")
    unmatched = [mask for mask in sorted(masks) if mask not in claims]
    return Pairs(items=items, unmatched=unmatched, warnings=tuple(warnings))


def _by_key(keys: Mapping[str, str]) -> dict[str, list[str]]:
    paths: dict[str, list[str]] = defaultdict(list)
    for path in sorted(keys):
        paths[keys[path]].append(path)
    return paths


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:LISTED]))
