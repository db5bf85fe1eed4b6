"""What an acceptance does to a mask set, told without labels: who is turned away, and how the rest differs.

The best masks are those of easy pictures: single, central, contrasty objects. How far a selection leans that way shows
in the areas and positions of the masks before and after it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fss.collection import MaskSet
from fss.collection.acceptance import Rows, gate_values, passes_gates
from fss.collection.config import AcceptanceRule
from fss.collection.schema import error_reason
from fss.core.arrays import Int64
from fss.core.rng import keyed_rng
from fss.images.mask_codec import decode_mask

AREA_EDGES = np.linspace(0, 1, 21)
CELLS = 9  # positions are counted on a grid of 9 x 9
SHOWN = 20  # images without a mask that are named
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class MaskReport:
    """Metrics of a mask set and of the masks accepted from it; counts are of images."""

    counts: dict[str, int]
    """images, without a mask (by reason), rejected by a gate, rejected by rank, accepted."""
    failures: list[tuple[str, str]]
    """The first images without a mask and why; the mask set has them all."""
    gates: dict[str, tuple[int, int]]
    """For each gate of the rule: masks that it rejects, and masks that it alone rejects."""
    scores: dict[str, tuple[list[float], list[float]]]
    """For each score of the rule: its 5, 25, 50, 75 and 95 % quantiles over all masks and over the accepted."""
    area: tuple[Int64, Int64]
    """Histograms over :data:`AREA_EDGES` of the masks' shares of their pictures: all, and the accepted."""
    position: tuple[Int64, Int64]
    """Where the masks' centres of mass lie, [9,9] from top left, for a sample: all, and the accepted of it."""

    def shifts(self) -> dict[str, float]:
        """How far the accepted differ from all, 0 (alike) to 1 (no overlap): half the L1 distance of histograms."""
        return {name: histogram_shift(*getattr(self, name)) for name in ("area", "position")}

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "counts": self.counts,
            "failures": [{"image_id": image_id, "error": error} for image_id, error in self.failures],
            "gates": {name: {"rejected": n, "alone": alone} for name, (n, alone) in self.gates.items()},
            "scores": {
                name: {"quantiles": list(QUANTILES), "all": every, "accepted": kept}
                for name, (every, kept) in self.scores.items()
            },
            "area": {
                "edges": AREA_EDGES.round(3).tolist(),
                "all": self.area[0].tolist(),
                "accepted": self.area[1].tolist(),
            },
            "position": {"all": self.position[0].tolist(), "accepted": self.position[1].tolist()},
            "shift": self.shifts(),
        }

    def markdown(self, title: str) -> str:
        """Return the report for people."""
        images = max(1, self.counts["images"])
        lines = [f"# {title}", "", "| | images | share |", "|---|---|---|"]
        lines += [f"| {name} | {count:,} | {count / images:.1%} |" for name, count in self.counts.items()]
        lines += ["", "| gate | rejects | it alone |", "|---|---|---|"]
        lines += [f"| {name} | {n:,} ({n / images:.1%}) | {alone:,} |" for name, (n, alone) in self.gates.items()]
        lines += ["", "| score (5, 25, 50, 75, 95 %) | all | accepted |", "|---|---|---|"]
        lines += [f"| {name} | {_text(every)} | {_text(kept)} |" for name, (every, kept) in self.scores.items()]
        if self.failures:
            lines += ["", "| first without a mask | why |", "|---|---|"]
            lines += [f"| {image_id} | {_cell(error)} |" for image_id, error in self.failures]
        shift = self.shifts()
        lines += ["", f"Distance of the accepted from all (0 alike, 1 disjoint): area {shift['area']:.3f}, "]
        lines[-1] += f"position {shift['position']:.3f} (on {self.position[0].sum():,} masks)."
        return "\n".join(lines) + "\n"


def build_report(
    masks: MaskSet,
    parts: Sequence[str],
    table: pa.Table,
    accepted: Rows,
    rule: AcceptanceRule,
    *,
    seed: int = 0,
    positions: int = 1000,
) -> MaskReport:
    """Describe a mask set and what is accepted of it.

    Args:
        masks: the set.
        parts: those that ``table`` was read from.
        table: as ``acceptance.read_scores`` returns it.
        accepted: rows of it.
        rule: that chose them.
        seed: draws the masks whose position is looked at.
        positions: how many of them; only these masks are decoded.
    """
    errors = table.column("error").to_pylist()
    masked = np.flatnonzero([error is None for error in errors])
    ids = table.column("image_id")
    failures = [
        (ids[int(row)].as_py(), str(errors[row])) for row in np.setdiff1d(np.arange(len(errors)), masked)[:SHOWN]
    ]
    reasons = Counter(error_reason(error) for error in errors if error)
    counts = {"images": table.num_rows, **{f"no mask: {name}": n for name, n in reasons.most_common()}}
    by_gate = int((~passes_gates(table, rule.gates)[masked]).sum())
    counts |= {"rejected by a gate": by_gate, "rejected by rank": len(masked) - by_gate - len(accepted)}
    shape = len(rule.gates), len(masked)
    failed = ~np.array([gate_values(table, gate)[masked] for gate in rule.gates], bool).reshape(shape)
    alone = failed & (failed.sum(0) == 1)
    gates = {gate: (int(failed[i].sum()), int(alone[i].sum())) for i, gate in enumerate(rule.gates)}
    areas = np.asarray(table.column("area").to_numpy(), np.float64)
    drawn = masked[keyed_rng(seed, item=len(masked), purpose="mask report").permutation(len(masked))[:positions]]
    centres = _centres(masks, parts, table, drawn)
    return MaskReport(
        counts=counts | {"accepted": len(accepted)},
        failures=failures,
        gates=gates,
        scores={name: (_quantiles(table, name, masked), _quantiles(table, name, accepted)) for name in rule.scores},
        area=(_area_histogram(areas[masked]), _area_histogram(areas[accepted])),
        position=(_grid(centres), _grid(centres[np.isin(drawn, accepted)])),
    )


def rejection_reason(table: pa.Table, row: int, rule: AcceptanceRule) -> str:
    """Say in a few words why a row with a mask was not accepted."""
    failed = [gate.removeprefix("gate_") for gate in rule.gates if not table.column(gate)[row].as_py()]
    return "gate " + ", ".join(failed) if failed else "rank"


def rows_by_part(table: pa.Table, rows: Rows) -> dict[int, list[tuple[int, int]]]:
    """Group rows of the table: place of the part to (place in ``rows``, row of the part), so that each is read once."""
    groups: dict[int, list[tuple[int, int]]] = {}
    places = table.select(["part", "row"]).take(rows).to_pylist()
    for number, place in enumerate(places):
        groups.setdefault(place["part"], []).append((number, place["row"]))
    return groups


def _centres(masks: MaskSet, parts: Sequence[str], table: pa.Table, rows: Rows) -> npt.NDArray[np.float64]:
    """Centres of mass as shares of height and width, [n,2]; nan for empty masks."""
    found = np.full((len(rows), 2), np.nan)
    for part, places in rows_by_part(table, rows).items():
        column = masks.read_part(parts[part], ["mask"]).column("mask")
        for number, row in places:
            mask = decode_mask(column[row].as_py()) > 0
            if mask.any():
                y, x = np.nonzero(mask)
                found[number] = (y.mean() + 0.5) / mask.shape[0], (x.mean() + 0.5) / mask.shape[1]
    return found


def _grid(centres: npt.NDArray[np.float64]) -> Int64:
    known = centres[~np.isnan(centres).any(1)]
    bins = np.linspace(0, 1, CELLS + 1)
    return np.histogram2d(known[:, 0], known[:, 1], [bins, bins])[0].astype(np.int64)


def _area_histogram(areas: npt.NDArray[np.float64]) -> Int64:
    return np.histogram(areas[~np.isnan(areas)], AREA_EDGES)[0].astype(np.int64)


def _quantiles(table: pa.Table, name: str, rows: Rows) -> list[float]:
    values = np.asarray(table.column(name).take(rows).to_numpy(), np.float64)
    values = values[~np.isnan(values)]
    return [round(float(value), 4) for value in np.quantile(values, QUANTILES)] if len(values) else []


def histogram_shift(every: Int64, kept: Int64) -> float:
    """Return how far two histograms differ, 0 (alike) to 1 (no overlap): half the L1 distance of their shares."""
    if not every.sum() or not kept.sum():
        return 0.0
    return round(float(np.abs(every / every.sum() - kept / kept.sum()).sum() / 2), 4)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def _text(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values) or "none"
