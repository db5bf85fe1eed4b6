"""The result of a job: a table for the terminal, and ``summary.json`` beside the outputs."""

import dataclasses
import functools
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from fss.collection import part_io
from fss.core import storage
from fss.core.config import describe
from fss.core.console import cell, output_console
from fss.episodes.config import describe_protocol
from pipelines.runtime.output_dir import SUMMARY_NAME, read_record
from pipelines.runtime.screen_words import counted, label

DRY_RUN = " (dry run)"
"""End of the name of a job that only shows its settings and its plan."""
_HEADINGS_OF_DRY_RUNS = {"inputs": "settings", "metrics": "plan"}
NETWORKS = ("model", "student")
"""Outputs that are networks in storage."""
_ADVICE = "Delete it and run its job again, which keeps finished work, or give --overwrite to start again"


@dataclasses.dataclass(kw_only=True)
class JobResult:
    """Result of a job, in plain JSON values."""

    job: str
    """Name of the job."""
    inputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Inputs: URIs, hashes, and settings that identify the result."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings that shape the outputs, but no number, so that equal results may have other ones."""
    outputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Outputs: URIs."""
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    """Counts, such as images, quarantined, accepted, episodes."""
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Measured results."""
    durations: dict[str, float] = dataclasses.field(default_factory=dict)
    """Seconds per stage."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What looks wrong, one sentence each; the command then ends with exit code 3."""
    report: str = ""
    """Table of results, which replaces ``metrics`` in the terminal."""
    markdown: str = ""
    """Table of results in Markdown, for the description of the run; empty: it has the counts and metrics."""
    verdicts: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Comparisons with the baselines by the name of what was compared; each has a ``line``, printed at the end."""
    run_id: str | None = None
    """Id of the MLflow run."""
    run_page: str = ""
    """Address of the MLflow run; of a local store, on the server that ``mlflow ui`` starts."""
    run_server: str = ""
    """Command that starts this server; empty if the store is a server."""
    worked: bool = True
    """False if the job had finished before."""
    folder: str = ""
    """Where the result was written; outputs below it move with it."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the wall-clock time of a block to ``durations[stage]``."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.durations[stage] = round(self.durations.get(stage, 0.0) + time.monotonic() - start, 3)

    def write(self, uri: str, name: str = SUMMARY_NAME) -> None:
        """Write the result into the folder ``uri`` (local or object store)."""
        self.folder = storage.absolute_uri(uri)
        part_io.write_json(storage.join(uri, name), dataclasses.asdict(self))

    def show(self, console: Console | None = None) -> None:
        """Print the report and the table of the job."""
        title = self.job if self.worked else f"{self.job}: nothing to do, this job had finished before"
        table = Table(title=title, show_header=False, title_justify="left")
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        words = _HEADINGS_OF_DRY_RUNS if self.job.endswith(DRY_RUN) else {}
        for heading in ("inputs", "counts", "metrics", "durations", "outputs"):
            values = {} if heading == "metrics" and self.report else getattr(self, heading)
            for index, (key, value) in enumerate(values.items()):
                planned = counted(key) if words and isinstance(value, int) else ""  # of a dry run, whose plan counts
                unit = {"durations": "s", "counts": counted(key), "metrics": planned}.get(heading, "")
                shown = describe_protocol(str(value)) if key == "protocol" else value
                for number, each in enumerate(shown if _are_texts(shown) else [shown]):
                    first = words.get(heading, heading) if index == number == 0 else ""
                    name = f"{first:<10} {label(key) if number == 0 else ''}"
                    table.add_row(cell(name), cell(f"{value_text(each)} {unit}".rstrip()))
            if values:
                table.add_section()
        for index, note in enumerate(self.notes):
            table.add_row("notes" if index == 0 else "", cell(note))
        if self.notes:
            table.add_section()
        if self.run_id:
            table.add_row("MLflow run", self.run_id)
        console = console or output_console()
        if self.report:
            console.print(self.report, highlight=False, markup=False, soft_wrap=True)  # a table keeps its lines
        console.print(table)
        if self.run_page:
            console.print(f"MLflow: {self.run_page}", highlight=False, markup=False, soft_wrap=True)
        if self.run_server:
            console.print(f"served by: {self.run_server}", highlight=False, markup=False, soft_wrap=True)
        for verdict in self.verdicts.values():
            console.print(f"verdict: {verdict['line']}", highlight=False, markup=False, soft_wrap=True)


def read_result(uri: str, name: str = SUMMARY_NAME) -> dict[str, Any] | None:
    """Return the result in the folder ``uri`` (local or object store), or None if there is none.

    Raises:
        ValueError: the file is damaged.
    """
    file = storage.join(uri, name)
    if not part_io.exists(file):
        return None
    values = read_record(file, {"job": str, "inputs": dict}, _ADVICE)
    try:
        _adapter().validate_python(values)
    except ValidationError as error:
        raise ValueError(f"{file} is damaged: {describe(error)}. {_ADVICE}") from error
    values["outputs"] = {key: _moved(each, values, uri) for key, each in values.get("outputs", {}).items()}
    return values


def _moved(output: Any, values: Mapping[str, Any], uri: str) -> Any:
    """Return an output at its place below the folder of the result, which may have been moved."""
    before = values.get("folder")
    if not before or not isinstance(output, str) or not f"{output}/".startswith(f"{before}/"):
        return output
    return storage.absolute_uri(uri) + output.removeprefix(before)


def finished_before(uri: str, key: str) -> JobResult | None:
    """Return the result in the folder ``uri`` if the job ``key`` wrote it, else None.

    Raises:
        ValueError: the file of the result is damaged.
    """
    earlier = read_result(uri)
    if earlier is None or earlier["inputs"].get("key") != key:
        return None
    return dataclasses.replace(_adapter().validate_python(earlier), worked=False)


def check_outputs(outputs: Mapping[str, Any], what: str, uri: str) -> None:
    """Check that the networks of a finished job are still there.

    Args:
        outputs: its outputs.
        what: the job, for the message.
        uri: folder of its result.

    Raises:
        ValueError: one of them is gone.
    """
    for name in NETWORKS:
        if (network := outputs.get(name)) and not storage.is_there(str(network)):
            raise ValueError(
                f"{what} has finished, but its {name} is gone from {network}. Copy it back, or give --overwrite to "
                f"start again; without {storage.join(uri, SUMMARY_NAME)}, the job goes on from what else is there"
            )


@functools.cache
def _adapter() -> TypeAdapter[JobResult]:
    return TypeAdapter(JobResult)


def value_text(value: Any) -> str:
    """Return a value of a result as text for people."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if _are_texts(value):
        return "; ".join(value)
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
