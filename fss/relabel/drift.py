"""Drift of a mask set from the previous one, measured without labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fss.collection import MaskSet
from fss.collection.acceptance import CLUSTER, passes_gates
from fss.core.arrays import IGNORE, Int64, Mask
from fss.core.rng import keyed_rng
from fss.images.mask_codec import decode_mask
from fss.saliency.report import AREA_EDGES, histogram_shift, rows_by_part

SAMPLE = 1000  # images whose masks are decoded


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Differences of two mask sets of the same images; histograms count images."""

    changed: float
    """Mean share of pixels that switched between object and background, of those that neither mask ignores."""
    vanished: float
    """Share of images that had an object before and have none now, of those that had one."""
    ignored: float
    """Mean share of pixels that the new mask ignores."""
    pictures: int
    """Number of images behind the shares above: a sample of those with a mask in both sets."""
    valid: tuple[float, float]
    """Share of all images whose mask passes every gate: before, now."""
    area: tuple[Int64, Int64]
    """Histograms over ``AREA_EDGES`` of the share of its image that a mask covers: before, now."""
    clusters: tuple[Int64, Int64, Int64]
    """Images in each cluster: all, those accepted before, those accepted now."""

    def shifts(self) -> dict[str, float]:
        """Return distances of histograms, 0 (equal) to 1 (disjoint).

        Areas are compared with those before, the clusters of accepted images with the clusters of all images.
        """
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
        """Return the metrics as Markdown tables."""
        lines = [f"# {title}", "", f"| of {self.pictures:,} images with both masks | share |", "|---|---|"]
        lines += [
            f"| pixels that changed | {self.changed:.1%} |",
            f"| pixels that the new mask ignores | {self.ignored:.1%} |",
            f"| images whose object vanished | {self.vanished:.1%} |",
            f"| masks that pass every gate, before | {self.valid[0]:.1%} |",
            f"| masks that pass every gate, now | {self.valid[1]:.1%} |",
        ]
        lines += ["", "| distance of histograms (0 equal, 1 disjoint) | |", "|---|---|"]
        lines += [f"| {name} | {value:.3f} |" for name, value in self.shifts().items()]
        lines += ["", "| cluster | images | accepted before | accepted now |", "|---|---|---|---|"]
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
    """Compare two mask sets of one collection.

    Args:
        before: the previous mask set.
        now: the new mask set.
        parts: names of the parts that the tables were read from.
        tables: ``acceptance.read_scores`` of both sets; the second has the column ``cluster`` too.
        accepted: ids of the images accepted before, and now.
        seed: seed of the sample of images whose masks are decoded.
    """
    old, new = tables
    both = np.flatnonzero(passes_gates(old, ()) & passes_gates(new, ()))
    sample = both[keyed_rng(seed, item=len(both), purpose="drift").permutation(len(both))[:SAMPLE]]
    shares = np.array([_shares(*pair) for pair in mask_pairs(before, now, parts, new, sample)]).reshape(-1, 3)
    ids = np.asarray(new.column("image_id").to_pylist(), object)
    cluster = np.asarray(new.column(CLUSTER).fill_null(-1).to_numpy(), np.int64)
    count = int(cluster.max(initial=-1)) + 1
    clustered = cluster >= 0
    groups = [clustered, *(clustered & np.array([name in names for name in ids], bool) for names in accepted)]
    every, first, second = (np.bincount(cluster[group], minlength=count) for group in groups)
    had_object = shares[:, 1] >= 0
    return Drift(
        changed=_mean(shares[:, 0]),
        vanished=_mean(shares[had_object, 1]),
        ignored=_mean(shares[:, 2]),
        pictures=len(sample),
        valid=(float(passes_gates(old).mean()), float(passes_gates(new).mean())),
        area=(_areas(old), _areas(new)),
        clusters=(every, first, second),
    )


def mask_pairs(
    before: MaskSet, now: MaskSet, parts: Sequence[str], table: pa.Table, rows: npt.NDArray[np.int64]
) -> list[tuple[Mask, Mask]]:
    """Return the stored masks of both sets, uint8 [H,W] each, for some rows of a table of scores."""
    pairs: dict[int, tuple[Mask, Mask]] = {}
    for part, positions in rows_by_part(table, rows).items():
        numbers, part_rows = zip(*positions, strict=True)
        columns = [
            masks.read_part(parts[part], ["mask"], rows=part_rows)["mask"].to_pylist() for masks in (before, now)
        ]
        for number, first, second in zip(numbers, *columns, strict=True):
            pairs[number] = decode_mask(first), decode_mask(second)
    return [pairs[number] for number in sorted(pairs)]


def _shares(old: Mask, new: Mask) -> tuple[float, float, float]:
    """Return the share of changed pixels, 1 if the object vanished (-1 without one before), and the ignored share."""
    valid = (old != IGNORE) & (new != IGNORE)
    old_object, new_object = (old > 0) & (old < IGNORE), (new > 0) & (new < IGNORE)
    changed = float(((old_object != new_object) & valid).sum()) / max(1.0, float(valid.sum()))
    vanished = float(not new_object.any()) if old_object.any() else -1.0
    return changed, vanished, float((new == IGNORE).mean())


def _areas(table: pa.Table) -> Int64:
    areas = np.asarray(table.column("area").fill_null(np.nan).to_numpy(), np.float64)
    return np.histogram(areas[~np.isnan(areas) & passes_gates(table, ())], AREA_EDGES)[0].astype(np.int64)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
