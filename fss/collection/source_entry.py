"""The entry of a source in a collection's metadata: what was asked for when it was ingested, and its parts."""

from collections.abc import Mapping, Sequence
from typing import Any

from fss.collection.division import ROWS, divide
from fss.collection.sources import Listing, SourceItem


def divide_source(listing: Listing, entry: dict[str, Any], *, others: int = 0) -> list[list[SourceItem]]:
    """Return the photographs of each part of a source; ``others`` is the number that the collection has already."""
    shuffled = entry["source"]["order"] == "shuffled"
    sizes = {key: entry[key] for key in ("part_size", "part_bytes")}
    return divide(listing, shuffled=shuffled, others=others, **sizes)


def largest_part(parts: Sequence[Sequence[SourceItem]], entry: dict[str, Any]) -> int:
    """Return the largest number of photographs that a part has or may have."""
    return max(entry["part_size"] or ROWS, *map(len, parts), 1)


def is_same_source(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Return whether a source is in the collection already: the same photographs, divided as is asked for.

    A source of an earlier version keeps the order of its paths, and a source resumes with the size of its parts where
    no other is given.
    """
    if any(old[key] != new[key] for key in ("identity", "listing", "keep_bytes", "limits")):
        return False
    order = old["source"].get("order", new["source"]["order"])
    if order != new["source"]["order"] or new["part_size"] not in (None, old["part_size"]):
        return False
    return old["part_size"] is not None or old["part_bytes"] == new["part_bytes"]


def next_part(entry: dict[str, Any]) -> int:
    """Return the number of the first part after those of a source."""
    parts: int = entry["parts"] if "parts" in entry else -(-entry["items"] // entry["part_size"])
    return int(entry["first_part"]) + parts


def renamed_classes(listed: Mapping[int, str], classes: Mapping[int, str]) -> dict[int, str]:
    """Return the listed classes that have another name in a collection, or another id; new ones have neither."""
    names = set(classes.values())
    return {key: name for key, name in listed.items() if (classes[key] != name if key in classes else name in names)}
