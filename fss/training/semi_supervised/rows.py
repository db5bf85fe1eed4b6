"""Which pictures a semantic training sees: the labelled ones, and the pool of all."""

from collections.abc import Collection as Ids
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fss.collection import Collection
from fss.collection.part_io import exists
from fss.core import storage
from fss.core.config import config_hash
from fss.core.rng import keyed_rng
from fss.training.semi_supervised.config import LabelledConfig

Rows = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class SemanticRows:
    """Rows of a collection by their use."""

    parts: tuple[str, ...]
    """Part names."""
    labelled: tuple[Rows, ...]
    """Per part: labelled rows."""
    pool: tuple[Rows, ...]
    """Per part: all usable rows, the labelled ones included."""
    counts: dict[str, int] = field(default_factory=dict)
    """labelled, pool, unusable."""
    hash: str = ""
    """Hash of the ids of the labelled pictures."""


def scan_rows(collection: Collection, config: LabelledConfig, *, accepted: Ids[str] | None = None) -> SemanticRows:
    """Find the rows; no mask is decoded.

    Args:
        collection: the pictures.
        config: which are labelled.
        accepted: image ids of the pool; None: all usable pictures. Labelled ones are always in it.

    Raises:
        ValueError: no such mask set, a listed picture that is not there or has no mask, or no labelled picture.
    """
    truth = collection.mask_set(config.mask_set)
    wanted = _listed(config.list_file)
    parts, finished = tuple(collection.part_names()), truth.finished_parts()

    def scan(part: str) -> list[tuple[str, bool, bool]]:
        images = collection.read_part(part, ["image_id", "uri", "error"]).to_pylist()
        masked = [False] * len(images)
        if part in finished:
            masked = [error is None for error in truth.read_part(part, ["error"]).column("error").to_pylist()]
        return [
            (row["image_id"], not row["error"], has and not row["error"] and _is_wanted(row, wanted))
            for row, has in zip(images, masked, strict=True)
        ]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(scan, parts))
    if wanted and (missing := sorted(name for name, seen in wanted.items() if not seen)):
        raise ValueError(
            f"{config.list_file} names {len(missing)} pictures that {collection.uri} does not have with a mask in "
            f"{config.mask_set!r}: {', '.join(missing[:3])}"
        )
    chosen = _draw([name for rows in found for name, _, labelled in rows if labelled], config)
    labelled = tuple(_rows([name in chosen for name, *_ in rows]) for rows in found)
    kept = tuple(
        _rows([ok and (accepted is None or name in accepted or name in chosen) for name, ok, _ in rows])
        for rows in found
    )
    total = sum(map(len, found))
    counts = {"labelled": len(chosen), "pool": sum(map(len, kept))}
    counts["unusable"] = total - sum(ok for rows in found for _, ok, _ in rows)
    if not chosen:
        raise ValueError(f"no picture of {collection.uri} has a mask in {config.mask_set!r}; label at least a few")
    return SemanticRows(parts=parts, labelled=labelled, pool=kept, counts=counts, hash=config_hash(sorted(chosen)))


def _draw(names: list[str], config: LabelledConfig) -> set[str]:
    if config.count is None:
        return set(names)
    if config.count > len(names):
        raise ValueError(f"{config.count} labelled pictures were asked for, there are {len(names)}; lower the count")
    draws = {name: keyed_rng(config.seed, item=name, purpose="semantic.labelled").random() for name in names}
    return set(sorted(names, key=lambda name: (draws[name], name))[: config.count])


def _listed(uri: str | None) -> dict[str, bool] | None:
    """The names of a list, none of them seen yet."""
    if uri is None:
        return None
    if not exists(uri):
        raise ValueError(f"there is no list of labelled pictures at {uri}")
    lines = storage.read_bytes(uri).decode().splitlines()
    names = {line.split()[0]: False for line in lines if line.strip()}
    if not names:
        raise ValueError(f"{uri} names no picture; write one image id or path a line")
    return names


def _is_wanted(row: dict[str, str], wanted: dict[str, bool] | None) -> bool:
    """Look for a picture under its id and under every end of its path."""
    if wanted is None:
        return True
    pieces = row["uri"].split("/")
    names = [row["image_id"], *("/".join(pieces[start:]) for start in range(len(pieces)))]
    found = [name for name in names if name in wanted]
    wanted.update(dict.fromkeys(found, True))
    return bool(found)


def _rows(chosen: list[bool]) -> Rows:
    return np.flatnonzero(chosen).astype(np.int32)
