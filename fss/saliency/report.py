"""Report of an acceptance, without labels: which masks it rejects, and how the accepted ones differ from all.

The masks with the best scores are those of easy images with a single, central object of high contrast. The areas and
positions of all masks and of the accepted ones show how far a selection is biased towards them.
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
CELLS = 9  # positions are counted on a grid of 9 x 9 cells
LISTED_FAILURES = 20  # images without a mask that the report lists
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class MaskReport:
    """Metrics of a mask set and of the masks accepted from it; counts are numbers of images."""

    counts: dict[str, int]
    """Numbers of images: all, without a mask (by reason), rejected by a gate, rejected by rank, accepted."""
    failures: list[tuple[str, str]]
    """Ids of the first images without a mask, with their errors; the mask set holds all of them."""
    gates: dict[str, tuple[int, int]]
    """Number of masks that each gate of the rule rejects, and that only this gate rejects."""
    scores: dict[str, tuple[list[float], list[float]]]
    """The 5, 25, 50, 75 and 95 % quantiles of each score of the rule: over all masks, over the accepted ones."""
    area: tuple[Int64, Int64]
    """Histograms over :data:`AREA_EDGES` of the share of its image that a mask covers: all masks, accepted ones."""
    position: tuple[Int64, Int64]
    """Histograms of the masks' centres of mass, [9,9] from the top left, on a sample: all masks, accepted ones."""

    def shifts(self) -> dict[str, float]:
        """Return the distance of accepted masks from all, 0 (equal) to 1 (disjoint), by area and by position."""
        return {name: histogram_shift(*getattr(self, name)) for name in ("area", "position")}

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "counts": self.counts,
            "failures": [{"image_id": image_id, "error": error} for image_id, error in self.failures],
            "gates": {name: {"rejected": n, "alone": alone} for name, (n, alone) in self.gates.items()},
            "scores": {
                name: {"quantiles": list(QUANTILES), "all": every, "accepted": accepted}
                for name, (every, accepted) in self.scores.items()
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
        """Return the report as Markdown."""
        images = max(1, self.counts["images"])
        lines = [f"# {title}", "", "| | images | share |", "|---|---|---|"]
        lines += [f"| {name} | {count:,} | {count / images:.1%} |" for name, count in self.counts.items()]
        lines += ["", "| gate | rejects | only this gate rejects |", "|---|---|---|"]
        lines += [f"| {name} | {n:,} ({n / images:.1%}) | {alone:,} |" for name, (n, alone) in self.gates.items()]
        lines += ["", "| score (5, 25, 50, 75, 95 %) | all | accepted |", "|---|---|---|"]
        lines += [f"| {name} | {_text(every)} | {_text(accepted)} |" for name, (every, accepted) in self.scores.items()]
        if self.failures:
            lines += ["", "| first images without a mask | error |", "|---|---|"]
            lines += [f"| {image_id} | {_cell(error)} |" for image_id, error in self.failures]
        shift = self.shifts()
        lines += ["", f"Distance of the accepted masks from all (0 equal, 1 disjoint): area {shift['area']:.3f}, "]
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
    """Build the report of a mask set and of the masks accepted from it.

    Args:
        masks: the mask set.
        parts: names of the parts that ``table`` was read from.
        table: table of ``acceptance.read_scores``.
        accepted: accepted rows of the table.
        rule: the rule that accepted them.
        seed: seed of the sample of masks whose positions are measured.
        positions: size of that sample; only these masks are decoded.
    """
    errors = table.column("error").to_pylist()
    masked = np.flatnonzero([error is None for error in errors])
    ids = table.column("image_id")
    failures = [
        (ids[int(row)].as_py(), str(errors[row]))
        for row in np.setdiff1d(np.arange(len(errors)), masked)[:LISTED_FAILURES]
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
    sample = masked[keyed_rng(seed, item=len(masked), purpose="mask report").permutation(len(masked))[:positions]]
    centres = _centres(masks, parts, table, sample)
    return MaskReport(
        counts=counts | {"accepted": len(accepted)},
        failures=failures,
        gates=gates,
        scores={name: (_quantiles(table, name, masked), _quantiles(table, name, accepted)) for name in rule.scores},
        area=(_area_histogram(areas[masked]), _area_histogram(areas[accepted])),
        position=(_grid(centres), _grid(centres[np.isin(sample, accepted)])),
    )


def rejection_reason(table: pa.Table, row: int, rule: AcceptanceRule) -> str:
    """Return the gates that reject a row with a mask, or "rank" where all gates pass."""
    failed = [gate.removeprefix("gate_") for gate in rule.gates if not table.column(gate)[row].as_py()]
    return "gate " + ", ".join(failed) if failed else "rank"


def rows_by_part(table: pa.Table, rows: Rows) -> dict[int, list[tuple[int, int]]]:
    """Group rows of a table by part, so that each part is read once.

    Returns:
        For the index of each part, pairs of an index into ``rows`` and a row of the part.
    """
    groups: dict[int, list[tuple[int, int]]] = {}
    positions = table.select(["part", "row"]).take(rows).to_pylist()
    for number, position in enumerate(positions):
        groups.setdefault(position["part"], []).append((number, position["row"]))
    return groups


def _centres(masks: MaskSet, parts: Sequence[str], table: pa.Table, rows: Rows) -> npt.NDArray[np.float64]:
    """Return centres of mass as shares of height and width, [n,2]; nan for empty masks."""
    centres = np.full((len(rows), 2), np.nan)
    for part, positions in rows_by_part(table, rows).items():
        numbers, part_rows = zip(*positions, strict=True)
        column = masks.read_part(parts[part], ["mask"], rows=part_rows).column("mask")
        for number, data in zip(numbers, column.to_pylist(), strict=True):
            mask = decode_mask(data) > 0
            if mask.any():
                y, x = np.nonzero(mask)
                centres[number] = (y.mean() + 0.5) / mask.shape[0], (x.mean() + 0.5) / mask.shape[1]
    return centres


def _grid(centres: npt.NDArray[np.float64]) -> Int64:
    valid = centres[~np.isnan(centres).any(1)]
    bins = np.linspace(0, 1, CELLS + 1)
    return np.histogram2d(valid[:, 0], valid[:, 1], [bins, bins])[0].astype(np.int64)


def _area_histogram(areas: npt.NDArray[np.float64]) -> Int64:
    return np.histogram(areas[~np.isnan(areas)], AREA_EDGES)[0].astype(np.int64)


def _quantiles(table: pa.Table, name: str, rows: Rows) -> list[float]:
    values = np.asarray(table.column(name).take(rows).to_numpy(), np.float64)
    values = values[~np.isnan(values)]
    return [round(float(value), 4) for value in np.quantile(values, QUANTILES)] if len(values) else []


def histogram_shift(first: Int64, second: Int64) -> float:
    """Return half the L1 distance of two normalised histograms, 0 (equal) to 1 (disjoint); 0 where one is empty."""
    if not first.sum() or not second.sum():
        return 0.0
    return round(float(np.abs(first / first.sum() - second / second.sum()).sum() / 2), 4)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def _text(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values) or "none"
