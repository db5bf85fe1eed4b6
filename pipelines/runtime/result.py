"""The end of every job: one readable table, ``summary.json`` beside the outputs, and an honest exit code."""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from fss.collection import part_io
from fss.core import storage
from fss.core.config import override, to_dict
from fss.core.console import output_console
from fss.core.exit_codes import exit_cleanly

SUMMARY_NAME = "summary.json"


@dataclasses.dataclass(kw_only=True)
class JobResult:
    """What a job did, in plain JSON values."""

    job: str
    """The pipeline's name."""
    inputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What it read: URIs, hashes, settings that name the result."""
    outputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What it wrote: URIs."""
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    """How many of what: images, quarantined, accepted, episodes."""
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The measured results."""
    durations: dict[str, float] = dataclasses.field(default_factory=dict)
    """Seconds per stage."""
    report: str = ""
    """A table of results, printed in the place of ``metrics``."""
    run_id: str | None = None
    """The MLflow run."""
    worked: bool = True
    """False when everything had been done before."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the wall-clock time of a block to ``durations[stage]``."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.durations[stage] = round(self.durations.get(stage, 0.0) + time.monotonic() - start, 3)

    def write(self, uri: str, name: str = SUMMARY_NAME) -> None:
        """Write the summary into the folder ``uri`` (local or object store)."""
        part_io.write_json(storage.join(uri, name), dataclasses.asdict(self))

    def show(self, console: Console | None = None) -> None:
        """Print the one table of the job."""
        title = self.job if self.worked else f"{self.job}: nothing to do, everything was finished before"
        table = Table(title=title, show_header=False, title_justify="left")
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for heading in ("inputs", "counts", "metrics", "durations", "outputs"):
            values = {} if heading == "metrics" and self.report else getattr(self, heading)
            for index, (key, value) in enumerate(values.items()):
                unit = " s" if heading == "durations" else ""
                table.add_row(f"{heading if index == 0 else '':<10} {key}", _text(value) + unit)
            if values:
                table.add_section()
        if self.run_id:
            table.add_row("MLflow run", self.run_id)
        console = console or output_console()
        if self.report:
            console.print(self.report, highlight=False)
        console.print(table)


def cli_main(
    config_type: type[Any],
    run: Callable[[Any], JobResult],
    *,
    job: str,
    description: str,
    presets: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
) -> None:
    """Be the ``main`` of a pipeline: read the command line, run, show the table, exit as ``fss.core.exit_codes`` says.

    With ``presets``, ``--preset NAME`` chooses the defaults of all other settings; ``--config FILE`` then replaces
    those that a file has.
    """
    with exit_cleanly(job):
        config = read_config(config_type, sys.argv[1:], job=job, description=description, presets=presets)
        run(config).show()


def read_config(
    config_type: type[Any],
    words: Sequence[str],
    *,
    job: str,
    description: str = "",
    presets: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
) -> Any:
    """Read settings from the words of a command line.

    Args:
        config_type: the settings' class.
        words: after the program's name.
        job: the program.
        description: for ``--help``.
        presets: each makes the settings to start from, given the values of those that have no default.

    Raises:
        ValueError: ``--config`` names no file that has settings of this job.
    """
    first = argparse.ArgumentParser(add_help=False, prog=f"python -m pipelines.{job}", allow_abbrev=False)
    first.add_argument("--config", metavar="FILE")
    first.add_argument("--preset", choices=sorted(presets))
    known, left = first.parse_known_args(words)
    description += "\nSettings from a file, such as a sweep's best.json: --config FILE."
    if presets:
        description += f" Presets: --preset {', '.join(presets)}."
    default = None
    if known.preset or known.config:
        start = presets[known.preset] if known.preset else config_type
        default = start(**dict.fromkeys(_required(config_type), tyro.MISSING))
    if known.config:
        default = override(default, _settings_of(job, known.config))
    return tyro.cli(config_type, args=left, default=default, prog=f"python -m pipelines.{job}", description=description)


def _settings_of(job: str, file: str) -> dict[str, Any]:
    """Return a job's section of a file of settings: JSON, ``{job: {setting: value}}``, nested like the settings."""
    if not part_io.exists(file):
        raise ValueError(f"there is no file of settings {file}; give the best.json of a sweep, or leave --config out")
    sections: dict[str, dict[str, Any]] = part_io.read_json(file)
    if job not in sections:
        raise ValueError(f"{file} has no settings of {job!r}; it has those of {', '.join(sorted(sections))}")
    return sections[job]


def _required(config_type: type[Any]) -> list[str]:
    missing = dataclasses.MISSING
    fields = dataclasses.fields(config_type)
    return [field.name for field in fields if field.default is missing and field.default_factory is missing]


def dry_run_result(job: str, config: Any, plan: Mapping[str, Any]) -> JobResult:
    """Return the summary of a job that only says what it would do."""
    return JobResult(job=f"{job} (dry run)", inputs=to_dict(config), metrics=dict(plan))


def read_result(uri: str, name: str = SUMMARY_NAME) -> dict[str, Any] | None:
    """Return the summary in the folder ``uri`` (local or object store), or None where there is none."""
    place = storage.join(uri, name)
    return part_io.read_json(place) if part_io.exists(place) else None


def finished_before(uri: str, key: str) -> JobResult | None:
    """Return the summary of the job ``key`` if it finished in the folder ``uri`` before."""
    earlier = read_result(uri)
    if earlier is None or earlier["inputs"].get("key") != key:
        return None
    return JobResult(**{**earlier, "worked": False})


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)
