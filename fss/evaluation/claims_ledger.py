"""The ledger of published claims: each is verified, short of its claim, or not run for a reason.

A baseline without a published value is measured once it has run.

A ledger is a folder with ``ledger.json`` (complete), ``ledger.csv`` and ``ledger.md`` (for reading). Every file is
replaced atomically whenever a claim's state changes, so a stopped verification resumes.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fss.collection import part_io
from fss.core import storage
from fss.core.config import from_dict, to_dict
from fss.evaluation.claims import Claim

State = Literal["verified", "short", "measured", "not run"]
STATES: tuple[State, ...] = ("verified", "short", "measured", "not run")
NAME = "ledger"


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """The state of one claim and our result for it."""

    claim: Claim
    """The published result."""
    state: State = "not run"
    """verified (reached within the tolerance), short (below it), measured (nothing is claimed) or not run (see
    ``missing``)."""
    result: float | None = None
    """Our result in percent, the mean over the folds."""
    folds: dict[str, float] = field(default_factory=dict)
    """Our result of every fold in percent."""
    missing: tuple[str, ...] = ()
    """Requirements that are not met, where the claim has not been run."""
    protocol: str = ""
    """Protocol that drew the episodes; lists of a ``-derived`` protocol are not the published ones."""
    training: str = ""
    """Amount of training that was run here; empty where the user gave a checkpoint."""
    episodes: int = 0
    """Episodes per fold; 0 where the claim has not been run."""
    plans: dict[str, str] = field(default_factory=dict)
    """Hash of the episode plan of every fold."""
    commands: tuple[str, ...] = ()
    """Commands that reproduce the result, one per fold."""
    notes: tuple[str, ...] = ()
    """Assumptions of the comparison that the source does not confirm, such as an inferred backbone."""
    run_id: str | None = None
    """Id of the MLflow run."""

    @property
    def difference(self) -> float | None:
        """Our result minus the claimed one, in percentage points; None if one of them is missing."""
        return None if self.result is None or self.claim.claimed is None else self.result - self.claim.claimed


def claim_state(claim: Claim, result: float, *, tolerance: float) -> State:
    """Return the state of a claim with a result in percent, which may be ``tolerance`` points below the claim."""
    if claim.claimed is None:
        return "measured"
    return "verified" if result >= claim.claimed - tolerance else "short"


class Ledger:
    """The entries of a set of claims, stored in a folder."""

    def __init__(self, output_dir: str, claims: Sequence[Claim]):
        """Open the ledger of ``claims`` in ``output_dir`` (local or s3://) with the entries that it already has.

        Raises:
            ValueError: the folder holds the ledger of other claims, or its file is damaged.
        """
        self._output_dir = output_dir
        self._entries = {claim.key: LedgerEntry(claim=claim, missing=("not selected yet",)) for claim in claims}
        uri = storage.join(output_dir, f"{NAME}.json")
        for key, entry in _read_entries(uri).items():
            if key not in self._entries or self._entries[key].claim != entry.claim:
                raise ValueError(f"{uri} is a ledger of other claims ({key}); give another output folder")
            self._entries[key] = entry

    def __getitem__(self, claim: Claim) -> LedgerEntry:
        return self._entries[claim.key]

    @property
    def entries(self) -> list[LedgerEntry]:
        """All entries, in the order of the claims."""
        return list(self._entries.values())

    def counts(self) -> dict[str, int]:
        """Return the number of entries in every state."""
        return {state: sum(entry.state == state for entry in self.entries) for state in STATES}

    def put(self, entry: LedgerEntry) -> None:
        """Replace a claim's entry and write the ledger; a result is never replaced by "not run"."""
        if entry.state == "not run" and self[entry.claim].state != "not run":
            return
        self._entries[entry.claim.key] = entry
        self.write()

    def write(self) -> None:
        """Write all three files, each atomically."""
        part_io.write_json(
            storage.join(self._output_dir, f"{NAME}.json"), {k: to_dict(e) for k, e in self._entries.items()}
        )
        for suffix, text in (("csv", to_csv(self.entries)), ("md", to_markdown(self.entries))):
            storage.write_atomically(
                *storage.resolve(storage.join(self._output_dir, f"{NAME}.{suffix}")), text.encode()
            )


def _read_entries(uri: str) -> dict[str, LedgerEntry]:
    """Return the entries of a ledger's file by claim; none if there is no file.

    Raises:
        ValueError: the file is damaged.
    """
    if not part_io.exists(uri):
        return {}
    try:
        return {key: from_dict(LedgerEntry, value) for key, value in part_io.read_json(uri).items()}
    except (ValueError, TypeError) as error:  # TypeError: an entry is no object
        raise ValueError(
            f"the ledger {uri} is damaged: {error}. Delete it, and the claims are verified again without repeating "
            "finished trainings and evaluations"
        ) from error


def to_csv(entries: Sequence[LedgerEntry]) -> str:
    """Return the entries as CSV: the columns of the claim, then our result."""
    buffer = io.StringIO()
    rows = [_flat(entry) for entry in entries]
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def to_markdown(entries: Sequence[LedgerEntry]) -> str:
    """Return the entries as a Markdown table, followed by the number of claims in each state."""
    head = ("source", "data", "model", "masking", "backbone", "shots", "claimed", "ours", "difference", "state")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for entry in entries:
        claim = entry.claim
        words = (claim.source, claim.dataset, claim.model, claim.masking, claim.backbone, claim.shots)
        metrics = (_number(claim.claimed, ".1f"), _number(entry.result, ".1f"), _number(entry.difference, "+.1f"))
        lines.append("| " + " | ".join(str(cell) for cell in (*words, *metrics, _state(entry))) + " |")
    counts = ", ".join(f"{sum(entry.state == state for entry in entries)} {state}" for state in STATES)
    return "\n".join([*lines, "", f"{len(entries)} claims: {counts}. Metrics in percent."]) + "\n"


def _state(entry: LedgerEntry) -> str:
    if entry.state == "not run":
        return f"not run: {'; '.join(entry.missing)}".replace("|", "/")
    words = [entry.protocol, f"{entry.episodes} episodes a fold", f"plan {', '.join(entry.plans.values())}"]
    words += [entry.training] if entry.training else []
    return f"{entry.state} ({'; '.join([', '.join(words), *entry.notes])})"


def _flat(entry: LedgerEntry) -> dict[str, Any]:
    row = dataclasses.asdict(entry.claim) | {"key": entry.claim.key, "state": entry.state}
    row |= {"ours": _number(entry.result, ".2f"), "difference": _number(entry.difference, "+.2f")}
    row |= {"missing": "; ".join(entry.missing), "protocol": entry.protocol, "episodes": entry.episodes}
    row |= {"training": entry.training, "notes": "; ".join(entry.notes)}
    row |= {name: json.dumps(getattr(entry, name)) for name in ("folds", "plans")}
    return row | {"commands": " && ".join(entry.commands), "run_id": entry.run_id or ""}


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
