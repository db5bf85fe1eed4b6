"""How a mask set differs from the one of before, told without labels: what rounds change, and where they lead."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fss.collection import MaskSet
from fss.collection.acceptance import CLUSTER, passes
from fss.core.arrays import IGNORE, Int64, Mask
from fss.core.rng import keyed_rng
from fss.images.mask_codec import decode_mask
from fss.saliency.report import AREA_EDGES, histogram_shift, rows_by_part

SAMPLE = 1000  # pictures whose masks are decoded


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Metrics of two mask sets of the same pictures; histograms are of pictures."""

    changed: float
    """Mean share of a picture's pixels, of those that neither mask ignores, that changed sides."""
    vanished: float
    """Share of the pictures with an object before that have none now."""
    ignored: float
    """Mean share of a picture's pixels that the new mask ignores."""
    pictures: int
    """Pictures looked at for the shares above: a sample of those with a mask in both sets."""
    valid: tuple[float, float]
    """Share of all pictures whose mask passes every gate: before, now."""
    area: tuple[Int64, Int64]
    """Histograms over ``AREA_EDGES`` of the masks' shares of their pictures: before, now."""
    clusters: tuple[Int64, Int64, Int64]
    """Pictures in each cluster: all, those accepted before, those accepted now."""

    def shifts(self) -> dict[str, float]:
        """Distances of histograms, 0 (alike) to 1 (no overlap): areas from before, accepted clusters from all."""
        every, before, now = self.clusters
        return {
            "area": histogram_shift(*self.area),
            "clusters accepted before": histogram_shift(every, before),
            "clusters accepted now": histogram_shift(every, now),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            **{name: round(getattr(self, name), 4) for name in ("changed", "vanished", "ignored")},
            "pictures": self.pictures,
            "valid": dict(zip(("before", "now"), self.valid, strict=True)),
            "area": {
                "edges": AREA_EDGES.round(3).tolist(),
                "before": self.area[0].tolist(),
                "now": self.area[1].tolist(),
            },
            "clusters": {
                name: counts.tolist()
                for name, counts in zip(("all", "accepted before", "accepted now"), self.clusters, strict=True)
            },
            "shift": self.shifts(),
        }

    def markdown(self, title: str) -> str:
        """Return the figures for people."""
        lines = [f"# {title}", "", f"| of {self.pictures:,} pictures with both masks | share |", "|---|---|"]
        lines += [
            f"| pixels that changed sides | {self.changed:.1%} |",
            f"| pixels that the new mask ignores | {self.ignored:.1%} |",
            f"| pictures whose object vanished | {self.vanished:.1%} |",
            f"| masks that pass every gate, before | {self.valid[0]:.1%} |",
            f"| masks that pass every gate, now | {self.valid[1]:.1%} |",
        ]
        lines += ["", "| distance of histograms (0 alike, 1 disjoint) | |", "|---|---|"]
        lines += [f"| {name} | {value:.3f} |" for name, value in self.shifts().items()]
        lines += ["", "| cluster | pictures | accepted before | accepted now |", "|---|---|---|---|"]
        columns = zip(*(counts.tolist() for counts in self.clusters), strict=True)
        lines += [f"| {number} | {n:,} | {a:,} | {b:,} |" for number, (n, a, b) in enumerate(columns)]
        return "\n".join(lines) + "\n"


def measure_drift(
    before: MaskSet,
    now: MaskSet,
    parts: Sequence[str],
    tables: tuple[pa.Table, pa.Table],
    accepted: tuple[frozenset[str], frozenset[str]],
    *,
    seed: int = 0,
) -> Drift:
    """Compare two mask sets.

    Args:
        before: the set of before.
        now: the new set.
        parts: those that the tables were read from.
        tables: ``acceptance.read_scores`` of both; the second with its column ``cluster``.
        accepted: ids accepted before, and now.
        seed: draws the pictures whose masks are decoded.
    """
    old, new = tables
    both = np.flatnonzero(passes(old, ()) & passes(new, ()))
    drawn = both[keyed_rng(seed, item=len(both), purpose="drift").permutation(len(both))[:SAMPLE]]
    shares = np.array([_shares(*pair) for pair in mask_pairs(before, now, parts, new, drawn)]).reshape(-1, 3)
    ids = np.asarray(new.column("image_id").to_pylist(), object)
    cluster = np.asarray(new.column(CLUSTER).fill_null(-1).to_numpy(), np.int64)
    count = int(cluster.max(initial=-1)) + 1
    known = cluster >= 0
    groups = [known, *(known & np.array([name in chosen for name in ids], bool) for chosen in accepted)]
    every, first, second = (np.bincount(cluster[group], minlength=count) for group in groups)
    had = shares[:, 1] >= 0
    return Drift(
        changed=_mean(shares[:, 0]),
        vanished=_mean(shares[had, 1]),
        ignored=_mean(shares[:, 2]),
        pictures=len(drawn),
        valid=(float(passes(old).mean()), float(passes(new).mean())),
        area=(_areas(old), _areas(new)),
        clusters=(every, first, second),
    )


def mask_pairs(
    before: MaskSet, now: MaskSet, parts: Sequence[str], table: pa.Table, rows: npt.NDArray[np.int64]
) -> list[tuple[Mask, Mask]]:
    """Return the masks of both sets for some rows of a table of scores, each uint8 [H,W] as it is stored."""
    found: dict[int, tuple[Mask, Mask]] = {}
    for part, places in rows_by_part(table, rows).items():
        columns = [masks.read_part(parts[part], ["mask"]).column("mask") for masks in (before, now)]
        for number, row in places:
            first, second = (decode_mask(column[row].as_py()) for column in columns)
            found[number] = first, second
    return [found[number] for number in sorted(found)]


def _shares(old: Mask, new: Mask) -> tuple[float, float, float]:
    """Share of changed pixels; whether the object vanished (-1 where there was none); share of ignored pixels."""
    valid = (old != IGNORE) & (new != IGNORE)
    was, is_now = (old > 0) & (old < IGNORE), (new > 0) & (new < IGNORE)
    changed = float(((was != is_now) & valid).sum()) / max(1.0, float(valid.sum()))
    vanished = float(not is_now.any()) if was.any() else -1.0
    return changed, vanished, float((new == IGNORE).mean())


def _areas(table: pa.Table) -> Int64:
    areas = np.asarray(table.column("area").fill_null(np.nan).to_numpy(), np.float64)
    return np.histogram(areas[~np.isnan(areas) & passes(table, ())], AREA_EDGES)[0].astype(np.int64)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
