"""Find the rows that a semantic training uses: the labelled pictures, and the pool of all usable pictures."""

from collections.abc import Collection as Ids
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fss.collection import MaskSet
from fss.collection.part_io import exists
from fss.core import storage
from fss.core.config import config_hash
from fss.core.rng import keyed_rng
from fss.training.semi_supervised.config import LabelledConfig

Rows = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class SemanticRows:
    """The rows of a collection that a training uses."""

    parts: tuple[str, ...]
    """Part names."""
    labelled: tuple[Rows, ...]
    """Labelled rows, for each part."""
    pool: tuple[Rows, ...]
    """All usable rows, including the labelled ones, for each part."""
    counts: dict[str, int] = field(default_factory=dict)
    """Numbers of rows: labelled, pool, unusable."""
    hash: str = ""
    """Hash of the ids of the labelled pictures, 16 hex digits."""


def scan_rows(truth: MaskSet, config: LabelledConfig, *, accepted: Ids[str] | None = None) -> SemanticRows:
    """Find the rows without decoding masks.

    Args:
        truth: the labels; pictures without a mask in it are unlabelled.
        config: which pictures are labelled.
        accepted: image ids of the pool, to which the labelled pictures are added; None selects all usable pictures.

    Raises:
        ValueError: a listed picture does not exist or has no mask, a line of the list fits several pictures, or no
            picture is labelled.
    """
    collection = truth.collection
    listed = _read_list(config.list_file)
    parts, finished = tuple(collection.part_names()), truth.finished_parts()

    masks = dict(truth.parts.tables([part for part in parts if part in finished], ["error"]))
    scans = []
    for part, table in collection.parts.tables(parts, ["image_id", "uri", "error"]):
        errors = masks[part].column("error").to_pylist() if part in masks else ["no mask"] * table.num_rows
        scans.append(
            [
                (row["image_id"], not row["error"], error is None and not row["error"] and _is_listed(row, listed))
                for row, error in zip(table.to_pylist(), errors, strict=True)
            ]
        )
    if listed and (missing := sorted(name for name, uri in listed.items() if not uri)):
        raise ValueError(
            f"{config.list_file} names {len(missing)} pictures that {collection.uri} does not have with a mask in "
            f"{truth.name!r}: {', '.join(missing[:3])}"
        )
    chosen = _draw([name for rows in scans for name, _, labelled in rows if labelled], config)
    labelled = tuple(_rows([name in chosen for name, *_ in rows]) for rows in scans)
    pool_rows = tuple(
        _rows([ok and (accepted is None or name in accepted or name in chosen) for name, ok, _ in rows])
        for rows in scans
    )
    total = sum(map(len, scans))
    counts = {"labelled": len(chosen), "pool": sum(map(len, pool_rows))}
    counts["unusable"] = total - sum(ok for rows in scans for _, ok, _ in rows)
    if not chosen:
        raise ValueError(f"no picture of {collection.uri} has a mask in {truth.name!r}; label at least a few")
    return SemanticRows(parts=parts, labelled=labelled, pool=pool_rows, counts=counts, hash=config_hash(sorted(chosen)))


def _draw(names: list[str], config: LabelledConfig) -> set[str]:
    if config.count is None:
        return set(names)
    if config.count > len(names):
        raise ValueError(f"count is {config.count} labelled pictures, but there are {len(names)}; lower the count")
    draws = {name: keyed_rng(config.seed, item=name, purpose="semantic.labelled").random() for name in names}
    return set(sorted(names, key=lambda name: (draws[name], name))[: config.count])


def _read_list(uri: str | None) -> dict[str, str] | None:
    """Return the names in a list file, each without the URI of the picture that it will match."""
    if uri is None:
        return None
    if not exists(uri):
        raise ValueError(f"there is no list of labelled pictures at {uri}")
    lines = storage.read_bytes(uri).decode().splitlines()
    names = {line.split()[0]: "" for line in lines if line.strip()}
    if not names:
        raise ValueError(f"{uri} names no picture; write one image id or path a line")
    return names


def _is_listed(row: dict[str, str], listed: dict[str, str] | None) -> bool:
    """Return whether the list contains a picture's id or an end of its path, and note the picture of these names.

    Raises:
        ValueError: a name fits another picture too.
    """
    if listed is None:
        return True
    uri = row["uri"]
    pieces = uri.split("/")
    names = [row["image_id"], *("/".join(pieces[start:]) for start in range(len(pieces)))]
    matches = [name for name in names if name in listed]
    for name in matches:
        if listed[name]:
            raise ValueError(
                f"{name} in the list of labelled pictures fits {listed[name]} and {uri}; write more of the path, or "
                "the image id"
            )
        listed[name] = uri
    return bool(matches)


def _rows(chosen: list[bool]) -> Rows:
    return np.flatnonzero(chosen).astype(np.int32)
