"""The last step of every job that makes masks: the acceptance of the masks, and a report.

``metadata/<set>/`` of the collection gets acceptances/<name>.parquet, report-<name>.json, report-<name>.md, and
report-<name>-*.png: histograms, and contact sheets of the best, worst and random accepted masks and of random rejected
masks.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fss.collection import MaskSet
from fss.collection.acceptance import Rows, passes_gates, quality, read_scores, write_acceptance
from fss.collection.config import AcceptanceRule
from fss.collection.part_io import read_image_bytes
from fss.core import storage
from fss.core.config import to_dict
from fss.core.rng import keyed_rng
from fss.images.decode import decode_image
from fss.images.mask_codec import decode_mask
from fss.relabel.feature_tables import with_clusters
from fss.saliency.report import AREA_EDGES, MaskReport, build_report, rejection_reason, rows_by_part
from fss.tracking.run import Run
from fss.visualize import contact_sheet, png_bytes

TILES = 18  # masks on each contact sheet
COLUMNS = 6
_LOOK_AT = {
    "best": "the best accepted masks; look whether the outline follows one whole object",
    "worst": "the worst accepted masks; if many are wrong, accept fewer",
    "random": "accepted masks at random; the share of wrong ones is what the training sees",
    "rejected": "rejected masks at random, with the failed check or the low quality; if many are right, accept more",
}
"""What to look at on a contact sheet, by group."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """Result of an acceptance."""

    counts: dict[str, int]
    """Numbers of images, of images without a mask, and of masks rejected by a gate, rejected by rank, and accepted."""
    metrics: dict[str, float]
    """Differences between the accepted masks and all masks."""
    outputs: dict[str, str]
    """URIs of the acceptance and its report."""


def accept_and_report(
    masks: MaskSet, parts: Sequence[str], rule: AcceptanceRule, *, name: str, seed: int, run: Run
) -> Accepted:
    """Accept masks of some parts by their stored scores, and write the acceptance and its report.

    Args:
        masks: the mask set.
        parts: names of the finished parts.
        rule: scores, gates and quantile of the acceptance.
        name: name of the acceptance.
        seed: seed of the random tiles of the contact sheets.
        run: MLflow run that the report and its pictures are logged to.

    Raises:
        ValueError: the set lacks scores or clusters of the rule.
    """
    masks.parts.refresh()
    table = read_scores(masks, parts, [*rule.scores, *rule.gates])
    if rule.within_clusters:
        table = with_clusters(table, masks, parts)
    accepted = write_acceptance(masks, name, table, rule)
    report = build_report(masks, parts, accepted, rule, seed=seed)
    title = f"{masks.name} of {masks.collection.name}, acceptance {name}"
    ranked = _qualities(table, rule)
    pictures = {"histograms": _histograms(report, (ranked, ranked[accepted]), title)}
    for group, rows in _groups(table, accepted, ranked, seed).items():
        tiles = _tiles(masks, parts, table, rows, rule, ranked)
        pictures[group] = contact_sheet(tiles, columns=COLUMNS, title=f"{title}: {_LOOK_AT[group]}")
    texts = {
        ".json": json.dumps({"mask set": masks.uri, "rule": to_dict(rule), **report.as_dict()}, indent=1) + "\n",
        ".md": report.markdown(title),
    }
    contents: dict[str, bytes] = {f"report-{name}{ending}": text.encode() for ending, text in texts.items()}
    contents |= {f"report-{name}-{group}.png": png_bytes(picture) for group, picture in pictures.items()}
    for file, data in contents.items():
        storage.write_atomically(*storage.resolve(storage.join(masks.metadata_uri, file)), data)
    for group, picture in pictures.items():
        run.log_image(f"report-{name}-{group}.png", picture)
    run.log_text(f"report-{name}.md", texts[".md"])
    run.log_json(f"report-{name}.json", report.as_dict())
    return Accepted(
        counts=report.counts,
        metrics={f"{kind} shift of the accepted": value for kind, value in report.shifts().items()},
        outputs={"acceptance": masks.acceptance_uri(name), "report": f"{masks.metadata_uri}/report-{name}.md"},
    )


def _groups(table: pa.Table, accepted: Rows, qualities: NDArray[np.float64], seed: int) -> dict[str, Rows]:
    """Return the rows of each contact sheet: the best, worst and random accepted masks, and random rejected masks.

    Best and worst are by the qualities that the sheets show, also where masks were accepted within clusters.
    """
    rejected = np.setdiff1d(np.flatnonzero(passes_gates(table, ())), accepted)
    accepted = accepted[np.argsort(-qualities[accepted], kind="stable")]

    def sample(rows: Rows, group: str) -> Rows:
        return rows[keyed_rng(seed, item=len(rows), purpose=f"contact sheet of {group}").permutation(len(rows))[:TILES]]

    return {
        "best": accepted[:TILES],
        "worst": accepted[::-1][:TILES],
        "random": sample(accepted, "random"),
        "rejected": sample(rejected, "rejected"),
    }


def _tiles(
    masks: MaskSet,
    parts: Sequence[str],
    table: pa.Table,
    rows: Rows,
    rule: AcceptanceRule,
    ranked: NDArray[np.float64],
) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Return photograph (uint8 [H,W,3]), mask (uint8 [H,W]) and caption of some rows of the score table.

    ``ranked`` are the :func:`_qualities` of the table.
    """
    limits = masks.collection.limits
    tiles: dict[int, tuple[np.ndarray, np.ndarray, str]] = {}
    for part, positions in rows_by_part(table, rows).items():
        numbers, part_rows = zip(*positions, strict=True)
        images = masks.collection.read_part(parts[part], ["image_id", "image", "uri"], rows=part_rows).to_pylist()
        column = masks.read_part(parts[part], ["mask"], rows=part_rows).column("mask").to_pylist()
        for number, image, data in zip(numbers, images, column, strict=True):
            mask = (decode_mask(data) > 0).astype(np.uint8)
            index = int(rows[number])
            caption = (
                rejection_reason(table, index, rule) if np.isnan(ranked[index]) else f"quality {ranked[index]:.2f}"
            )
            encoded = read_image_bytes(image["image"], image["uri"], limits, image_id=image["image_id"])
            tiles[number] = decode_image(encoded, limits), mask, caption
    return [tiles[number] for number in sorted(tiles)]


def _qualities(table: pa.Table, rule: AcceptanceRule) -> NDArray[np.float64]:
    """Return the quality in [0, 1] of every row, [N]; nan where a mask fails a gate."""
    valid = passes_gates(table, rule.gates)
    ranked = np.full(table.num_rows, np.nan)
    ranked[valid] = quality(table.filter(pa.array(valid)), rule.scores)
    return ranked


def _histograms(
    report: MaskReport, qualities: tuple[NDArray[np.float64], NDArray[np.float64]], title: str
) -> np.ndarray:
    """Draw histograms of quality and areas, positions (all and accepted) and gates; uint8 [H,W,3].

    Args:
        report: the report of the masks.
        qualities: quality of all masks and of the accepted ones; nan where there is none.
        title: title of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(17, 3.6), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title)
    first, *axes = figure.subplots(1, 5, width_ratios=(1.4, 1.4, 1, 1, 1.2))
    for values, label in zip(qualities, ("pass all checks", "accepted"), strict=True):
        edges = np.linspace(0, 1, 21)
        counts = np.histogram(values[~np.isnan(values)], edges)[0]
        first.stairs(counts, edges, label=label, fill=label != "accepted", alpha=0.6)
    first.set(title="quality of the mask", xlabel="mean rank over the scores (1 is best)", ylabel="masks")
    first.legend()
    for counts, label in zip(report.area, ("all", "accepted"), strict=True):
        axes[0].stairs(counts / max(1, counts.sum()), AREA_EDGES, label=label, fill=label == "all", alpha=0.6)
    axes[0].set(title="area of the mask", xlabel="share of the picture", ylabel="share of the masks")
    axes[0].legend()
    top = max(float((counts / max(1, counts.sum())).max()) for counts in report.position)
    for axis, counts, label in zip(axes[1:3], report.position, ("all", "accepted"), strict=True):
        axis.imshow(counts / max(1, counts.sum()), vmin=0, vmax=top, extent=(0, 1, 1, 0))
        axis.set(title=f"centre of the mask, {label}")
    rejects = {gate.removeprefix("gate_"): count for gate, (count, _) in report.gates.items()}
    axes[3].barh(list(rejects), list(rejects.values()))
    axes[3].set(title="masks that fail a check", xlabel="masks", xlim=(0, max(1, *rejects.values(), 0)))
    if not any(rejects.values()):
        axes[3].text(0.5, 0.5, "none", transform=axes[3].transAxes, horizontalalignment="center")
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.array(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
