"""Published metrics of few-shot segmentation: which method claims which score on which benchmark.

The rows are in ``claims.csv`` beside this module. A value is the claim of its source, not a result of this library.
Rows without a value are baselines of this library on the same benchmarks, for which nothing is published.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

COLUMNS = ("source", "dataset", "model", "masking", "backbone", "shots", "metric", "claimed")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One published result, or a baseline on the same benchmark."""

    row: int
    """Number of the row in the ledger, from 1."""
    source: str
    """Publication that makes the claim, such as ``HM (ECCV 2022)``."""
    dataset: str
    """Benchmark: PASCAL-5i, COCO-20i, FSS-1000 or COCO-20i -> PASCAL VOC."""
    model: str
    """Learner: HSNet, ASNet, VAT, MaskSplit or density, or a method that this library lacks."""
    masking: str
    """Masking strategy: none, feature, input or hybrid."""
    backbone: str
    """Backbone as the source names it; ``unknown`` where the source names none."""
    shots: int
    """Supports per episode."""
    metric: str
    """Name of the metric, such as ``mIoU``."""
    claimed: float | None
    """Published value in percent; None where there is none."""

    @property
    def key(self) -> str:
        """Short unique name: ``hsnet-hybrid-resnet50-coco-20i-1shot-hm-eccv-2022``."""
        words = (
            self.model,
            self.masking,
            self.backbone.replace("-", ""),
            self.dataset,
            f"{self.shots}shot",
            self.source,
        )
        text = "-".join(words).lower()
        return "-".join("".join(letter if letter.isalnum() else " " for letter in text).split())


def read_claims() -> tuple[Claim, ...]:
    """Read the ledger that comes with the library, in its order."""
    return parse_claims(resources.files("fss.evaluation").joinpath("claims.csv").read_text(encoding="utf-8"))


def parse_claims(text: str) -> tuple[Claim, ...]:
    """Parse a ledger in CSV.

    Raises:
        ValueError: the columns are not those of a ledger, or a row is no claim; the message names the row.
    """
    reader = csv.DictReader(text.splitlines())
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ValueError(f"a ledger has the columns {', '.join(COLUMNS)}; got {', '.join(reader.fieldnames or ())}")
    return tuple(_claim(number, row) for number, row in enumerate(reader, start=1))


def select_claims(
    claims: Sequence[Claim],
    *,
    dataset: str | None = None,
    model: str | None = None,
    masking: str | None = None,
    backbone: str | None = None,
    shots: int | None = None,
    source: str | None = None,
) -> tuple[Claim, ...]:
    """Return the claims that match every given value, ignoring case; ``source`` may be a part of the claim's source.

    Raises:
        ValueError: no claim matches; the message lists the values that occur.
    """
    criteria = {"dataset": dataset, "model": model, "masking": masking, "backbone": backbone, "shots": shots}
    given = {name: str(value).lower() for name, value in criteria.items() if value is not None}
    selected = tuple(
        claim
        for claim in claims
        if all(str(getattr(claim, name)).lower() == value for name, value in given.items())
        and (source is None or source.lower() in claim.source.lower())
    )
    if not selected:
        filters = given if source is None else {**given, "source": source}
        choices = "; ".join(f"{name}: {', '.join(sorted({str(getattr(c, name)) for c in claims}))}" for name in filters)
        raise ValueError(f"no claim has {filters}; the ledger has {choices}")
    return selected


def _claim(number: int, row: dict[str, str]) -> Claim:
    try:
        shots, claimed = int(row["shots"]), float(row["claimed"]) if row["claimed"] != "" else None
    except (TypeError, ValueError) as error:
        raise ValueError(f"row {number} of the ledger is no claim: {row}") from error
    if shots < 1 or (claimed is not None and not 0.0 <= claimed <= 100.0):
        raise ValueError(f"row {number} of the ledger needs at least 1 shot and a value from 0 to 100 percent: {row}")
    words = {name: row[name] for name in COLUMNS if name not in ("shots", "claimed")}
    return Claim(row=number, shots=shots, claimed=claimed, **words)
