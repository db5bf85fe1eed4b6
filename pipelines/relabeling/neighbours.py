"""The neighbour search of a relabelling on Ray: tasks count and draw candidates, one builds the search, tasks use it.

The driver only sees two counts of every part. The search lies in Ray's object store, where the processes of a machine
share it.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fss.collection.acceptance_file import Acceptance
from fss.relabel import feature_tables
from fss.relabel.candidates import SearchPlan, count_rows, plan_search, write_candidates
from fss.relabel.neighbours import Search, SearchData, build_search, write_neighbours
from pipelines.relabeling.task import RelabelTask
from pipelines.runtime.config import PartFailureConfig
from pipelines.runtime.map_parts import PartsResult, run_parts

COUNTED = 256  # parts that a task counts
BUILD_TRIES = 3

Counts = tuple[list[int], list[int]]
"""Images of each part that have a feature, and that may be supports."""


def find_neighbours(
    task: RelabelTask, parts: Sequence[str], *, workers: int | None, failures: PartFailureConfig, stage: str
) -> tuple[SearchPlan, PartsResult]:
    """Write the neighbours and the cluster of every image, beside the features.

    Args:
        task: the relabelling, whose features of ``parts`` are written.
        parts: names of the parts.
        workers: most concurrent tasks; None: see ``run_parts``.
        failures: what happens to parts that fail.
        stage: prefix of the progress lines.

    Returns:
        The plan of the search, and the result of the parts.

    Raises:
        ValueError: no image may be a support.
    """
    masks = task.masks()
    # A search without all counts or all candidates would be another search.
    run = functools.partial(run_parts, workers=workers, failures=replace(failures, max_failed_parts=0.0))
    blocks = {f"part-{start:09d}": parts[start : start + COUNTED] for start in range(0, len(parts), COUNTED)}
    counts: dict[str, Counts] = {}
    run(
        list(blocks),
        functools.partial(_count, task=task, blocks=blocks),
        stage=f"{stage} counts",
        on_part=lambda row: counts.update({row["part"]: row["counts"]}),
    )
    features, usable = ([count for name in blocks for count in counts[name][which]] for which in (0, 1))
    plan = plan_search(masks, parts, features, usable, task.config)
    run(
        plan.tables(),
        functools.partial(_write_candidates, task=task, plan=plan),
        stage=f"{stage} candidates",
        finished=feature_tables.finished(masks, "candidates"),
    )
    finished = feature_tables.finished(masks, "neighbours")
    result = run_parts(
        parts,
        functools.partial(_write_neighbours, task=task, search=_build(task, plan) if set(parts) - finished else None),
        stage=f"{stage} neighbours",
        finished=finished,
        workers=workers,
        failures=failures,
    )
    return plan, result


def _build(task: RelabelTask, plan: SearchPlan) -> Any:
    """Start a task that builds the search, and return the reference of the result in the object store."""
    import ray

    def build() -> SearchData:
        return build_search(task.masks(), plan, task.config)

    return ray.remote(num_cpus=1, max_retries=BUILD_TRIES)(build).remote()


def _count(name: str, *, task: RelabelTask, blocks: Mapping[str, Sequence[str]]) -> dict[str, Counts]:
    return {"counts": count_rows(task.masks(), blocks[name], _accepted(task))}


def _write_candidates(name: str, *, task: RelabelTask, plan: SearchPlan) -> dict[str, int]:
    return {"images": write_candidates(task.masks(), name, plan, _accepted(task))}


def _write_neighbours(part: str, *, task: RelabelTask, search: Any) -> dict[str, int]:
    return {"images": write_neighbours(task.masks(), part, _open(search), task.config)}


@functools.lru_cache(maxsize=1)
def _open(search: Any) -> Search:
    """Open a search of the object store once per process; its arrays are not copied."""
    import ray

    data: SearchData = ray.get(search)
    return data.open()


def _accepted(task: RelabelTask) -> Acceptance | None:
    return task.masks_before().read_acceptance(task.acceptance) if task.acceptance else None
