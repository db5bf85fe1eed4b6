"""The search for the pictures that make a part fail: halves of its rows are computed until single rows are left."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fss.collection import Collection
from fss.collection.part_pipeline import RowSelection

MOST = 8  # rows at fault in a part; if there are more, the pictures are not the reason
TRIES = 2  # of the part without them, whose process may be one that the probes before have brought down


@dataclass(frozen=True, kw_only=True)
class RowFunction:
    """A stage that can make some rows of a part."""

    function: Callable[..., Mapping[str, Any]]
    """Makes rows of a part, ``function(part, selection=...)``, and returns their statistics; picklable."""
    pictures: Callable[[str], Sequence[str]]
    """Returns the names or ids of the pictures of a part, in the order of its rows; runs in the driver."""
    gpus: float = 0.0
    """GPUs that the function takes."""


def collection_pictures(collection: Collection) -> Callable[[str], list[str]]:
    """Return a function that reads the image ids of a part of a collection."""
    return lambda part: collection.read_part(part, ["image_id"]).column("image_id").to_pylist()


Probe = Callable[[Sequence[RowSelection]], list[Mapping[str, Any]]]
"""Makes each selection of rows of a part in a process of its own, and returns their reports in order."""


def make_without_faulty_rows(count: int, probe: Probe) -> tuple[dict[int, str], Mapping[str, Any] | None]:
    """Find the rows at fault in a part, and make the part with their reasons in place of their results.

    Args:
        count: number of rows of the part.
        probe: makes rows of the part.

    Returns:
        The reasons by row, and the report of the part; no reasons and None if the rows are not what makes it fail.
    """
    ranges, suspects = [range(count)], list[range]()
    while ranges:
        failing = _failing(ranges, probe)
        if failing is None or len(failing) + len(suspects) > MOST:
            return {}, None
        suspects += [rows for rows in failing if len(rows) == 1]
        ranges = [half for rows in failing if len(rows) > 1 for half in _halves(rows)]
    # A second failure confirms the first, so that no picture is put aside for a passing fault of a machine.
    confirmed = _failing(suspects, probe) if suspects else None
    if not confirmed:
        return {}, None
    reasons = {rows.start: reason for rows, reason in confirmed.items()}
    for _ in range(TRIES):
        (report,) = probe([RowSelection(faulty=reasons)])
        if not report["failure"]:
            return reasons, report
    return {}, None


def _failing(ranges: Sequence[range], probe: Probe) -> dict[range, str] | None:
    """Return the ranges of rows that fail, with the last line of the failure; None during an outage.

    An object store that does not answer must never cost a picture.
    """
    reports = probe([RowSelection(only=rows) for rows in ranges])
    if any(report["outage"] for report in reports):
        return None
    pairs = zip(ranges, reports, strict=True)
    return {rows: report["failure"].strip().splitlines()[-1] for rows, report in pairs if report["failure"]}


def _halves(rows: range) -> tuple[range, range]:
    middle = len(rows) // 2
    return rows[:middle], rows[middle:]
