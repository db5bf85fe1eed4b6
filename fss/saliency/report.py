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
from fss.collection.acceptance import Rows, gate_values, passes_gates, score_tables
from fss.collection.config import AcceptanceRule
from fss.collection.schema import error_reason, without_error
from fss.core.arrays import Int64
from fss.core.rng import keyed_rng
from fss.images.mask_codec import decode_mask
from fss.saliency.running_quantiles import EXACT, RunningQuantiles

AREA_EDGES = np.linspace(0, 1, 21)
CELLS = 9  # positions are counted on a grid of 9 x 9 cells
LISTED_FAILURES = 20  # images without a mask that the report lists
_ROWS = {
    "rejected by a gate": "masks that fail a check",
    "rejected by rank": "masks that pass all checks but rank too low in quality",
    "accepted": "accepted masks, which a training uses",
}
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
        rows = ((_ROWS.get(name, name), count) for name, count in self.counts.items())
        lines += [f"| {name} | {count:,} | {count / images:.1%} |" for name, count in rows]
        lines += ["", "| check (gate) | masks that fail it | masks that fail only it |", "|---|---|---|"]
        lines += [f"| {name} | {n:,} ({n / images:.1%}) | {alone:,} |" for name, (n, alone) in self.gates.items()]
        lines += ["", "| score (its 5, 25, 50, 75 and 95 % quantiles) | all masks | accepted masks |", "|---|---|---|"]
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
    accepted: Rows,
    rule: AcceptanceRule,
    *,
    seed: int = 0,
    positions: int = 1000,
) -> MaskReport:
    """Build the report of a mask set and of the masks accepted from it, from the scores of a few parts at a time.

    Args:
        masks: the mask set.
        parts: names of the parts that the acceptance is about.
        accepted: accepted rows of the table ``acceptance.read_scores(masks, parts)``.
        rule: the rule that accepted them.
        seed: seed of the sample of masks whose positions are measured.
        positions: size of that sample; only these masks are decoded.
    """
    statistics, accepted_rows = _Statistics(rule), np.sort(accepted)
    for table in score_tables(masks, parts):
        first, last = np.searchsorted(accepted_rows, [statistics.images, statistics.images + table.num_rows])
        statistics.add(table, accepted_rows[first:last] - statistics.images)
    rows, sample = _sample_masks(masks, parts, statistics.masked, positions, seed)
    centres = _centres(masks, parts, sample, np.arange(len(rows)))
    by_gate = statistics.by_gate
    counts = {"images": statistics.images}
    counts |= {f"no mask: {name}": count for name, count in statistics.reasons.most_common()}
    counts |= {
        "rejected by a gate": by_gate,
        "rejected by rank": statistics.masked - by_gate - len(accepted),
        "accepted": len(accepted),
    }
    scores = statistics.scores.items()
    return MaskReport(
        counts=counts,
        failures=statistics.failures,
        gates={gate: (statistics.failed[gate], statistics.alone[gate]) for gate in rule.gates},
        scores={name: (every.quantiles(QUANTILES), best.quantiles(QUANTILES)) for name, (every, best) in scores},
        area=statistics.area,
        position=(_grid(centres), _grid(centres[np.isin(rows, accepted_rows)])),
    )


class _Statistics:
    """Running statistics of a mask set, whose size does not depend on the number of its images."""

    def __init__(self, rule: AcceptanceRule) -> None:
        self.gates = rule.gates
        self.images = self.masked = self.by_gate = 0
        self.reasons, self.failed, self.alone = Counter[str](), Counter[str](), Counter[str]()
        self.failures: list[tuple[str, str]] = []
        self.area = _area_histogram(np.zeros(0)), _area_histogram(np.zeros(0))
        self.scores = {name: (RunningQuantiles(), RunningQuantiles()) for name in rule.scores}

    def add(self, table: pa.Table, accepted: Rows) -> None:
        """Add the next rows; ``accepted`` are the accepted ones among them."""
        masked = without_error(table)
        errors = table.select(["image_id", "error"]).filter(pa.array(~masked)).to_pylist()
        self.reasons.update(error_reason(row["error"]) for row in errors)
        self.failures += [(row["image_id"], row["error"]) for row in errors[: LISTED_FAILURES - len(self.failures)]]
        self.by_gate += int((~passes_gates(table, self.gates)[masked]).sum())
        shape = len(self.gates), int(masked.sum())
        failed = ~np.array([gate_values(table, gate)[masked] for gate in self.gates], bool).reshape(shape)
        alone = failed & (failed.sum(0) == 1)
        for number, gate in enumerate(self.gates):
            self.failed[gate] += int(failed[number].sum())
            self.alone[gate] += int(alone[number].sum())
        areas = np.asarray(table.column("area").to_numpy(), np.float64)
        self.area = self.area[0] + _area_histogram(areas[masked]), self.area[1] + _area_histogram(areas[accepted])
        for name, (every, selected) in self.scores.items():
            values = np.asarray(table.column(name).to_numpy(), np.float32)
            every.add(values[masked])
            selected.add(values[accepted])
        self.images += table.num_rows
        self.masked += shape[1]


def _sample_masks(masks: MaskSet, parts: Sequence[str], masked: int, size: int, seed: int) -> tuple[Rows, pa.Table]:
    """Return the rows of a random sample of the masks, and a table of them with the columns ``part`` and ``row``."""
    rng = keyed_rng(seed, item=masked, purpose="mask report")
    numbers = rng.permutation(masked)[:size] if masked <= EXACT else rng.choice(masked, size, replace=False)
    numbers, rows, columns = np.sort(numbers), [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)]
    first = first_masked = first_part = 0
    for sizes, table in masks.parts.groups(parts, ["error"]):
        own = np.flatnonzero(without_error(table))
        start, stop = np.searchsorted(numbers, [first_masked, first_masked + len(own)])
        chosen, starts = own[numbers[start:stop] - first_masked], np.cumsum([0, *sizes])
        part = np.searchsorted(starts, chosen, side="right") - 1
        rows.append(first + chosen)
        columns.append(np.stack([first_part + part, chosen - starts[part]], 1))
        first, first_masked, first_part = first + table.num_rows, first_masked + len(own), first_part + len(sizes)
    part, row = np.concatenate(columns).T
    return np.concatenate(rows), pa.table({"part": part, "row": row})


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


def histogram_shift(first: Int64, second: Int64) -> float:
    """Return half the L1 distance of two normalised histograms, 0 (equal) to 1 (disjoint); 0 where one is empty."""
    if not first.sum() or not second.sum():
        return 0.0
    return round(float(np.abs(first / first.sum() - second / second.sum()).sum() / 2), 4)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def _text(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values) or "none"
