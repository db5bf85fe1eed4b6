"""The description of an MLflow run, in Markdown: verdict, table of results, pictures, notes, outputs and command.

MLflow shows the first lines of a description and unfolds the rest. Lines of Markdown without a blank line between them
become one paragraph, so lists are used for what belongs on lines of its own.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from fss.core.console import text_table
from fss.core.printable import escape_markdown
from fss.tracking.run import Run
from pipelines.runtime.result import JobResult, value_text
from pipelines.runtime.screen_words import counted, label

LIMIT = 5000
"""Longest description in characters; older versions of MLflow take no longer tags."""
_MORE = "\n\n*The rest is in the artifact summary.json.*"


def describe(result: JobResult, *, command: str = "", pictures: Mapping[str, str] | None = None) -> str:
    """Return the description of a job's run.

    Args:
        result: result of the job.
        command: command line that repeats the job.
        pictures: addresses of pictures by their captions.
    """
    blocks = [f"**Verdict**: {escape_markdown(verdict['line'])}" for verdict in result.verdicts.values()]
    blocks += [f"![{escape_markdown(caption)}]({address})" for caption, address in (pictures or {}).items()]
    blocks += [result.markdown.strip() or _numbers(result)]
    blocks += [f"**Notes**\n\n{_listed(result.notes)}"] if result.notes else []
    outputs = [f"{label(name)}: `{value}`" for name, value in result.outputs.items()]
    blocks += ["**Outputs**\n\n" + "\n".join(f"- {line}" for line in outputs)] if outputs else []
    blocks += [f"**Again**\n\n```\n{_folded(command)}\n```"] if command else []
    return _cut([block.strip() for block in blocks if block])


def artifact_address(run: Run, name: str) -> str:
    """Return the address of an artifact on the server that shows the run, for a picture in its description."""
    return f"get-artifact?path={quote(name)}&run_uuid={run.run_id}"


def comparison_address(runs: Sequence[Run]) -> str:
    """Return the address of MLflow's page that compares runs of one experiment, on the same server."""
    ids = ",".join(f'"{run.run_id}"' for run in runs)
    experiment = f'["{runs[0].experiment_id}"]'
    return f"#/compare-runs?runs={quote(f'[{ids}]')}&experiments={quote(experiment)}"


def _numbers(result: JobResult) -> str:
    """Return the metrics and counts of a result as a Markdown table."""
    rows = [[label(name), value_text(value)] for name, value in result.metrics.items()]
    rows += [[label(name), f"{value_text(value)} {counted(name)}".rstrip()] for name, value in result.counts.items()]
    return text_table(["", "result"], rows, markdown=True) if rows else ""


def _folded(command: str) -> str:
    """Return a command line with a flag on each line, since a long line makes the whole page wide."""
    return command.replace(" --", " \\\n    --")


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escape_markdown(' '.join(line.split()))}" for line in lines)


def _cut(blocks: Sequence[str]) -> str:
    """Join as many blocks as a tag takes; of the first that is too long, the lines that fit."""
    text = "\n\n".join(blocks)
    if len(text) <= LIMIT:
        return text
    kept = text[: LIMIT - len(_MORE)]
    return kept[: kept.rfind("\n")] + _MORE
