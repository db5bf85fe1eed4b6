"""The bank of supports of a relabelling, written by tasks before the masks are made."""

import functools
from collections.abc import Mapping

from fss.collection.schema import part_name
from fss.relabel.candidates import SearchPlan
from fss.relabel.class_bank import drawn_shots, parse_shot_name
from fss.relabel.support_bank import Position, finished_tables, write_candidate_supports, write_shots
from pipelines.relabeling.task import RelabelTask, labelled_masks, labelled_pictures
from pipelines.runtime.config import PartFailureConfig
from pipelines.runtime.map_parts import run_parts

SHOTS = 256  # labelled shots of a table


def write_supports(
    task: RelabelTask, plan: SearchPlan, *, workers: int | None, failures: PartFailureConfig, stage: str
) -> None:
    """Write the missing tables of the bank; pictures that are their own supports need none.

    Args:
        task: the relabelling, whose candidates are written.
        plan: the candidates.
        workers: most concurrent tasks; None: see ``run_parts``.
        failures: what happens to tables that fail; the supports of a missing one are read from their collection.
        stage: prefix of the progress lines.
    """
    if task.config.supports == "self":
        return
    if task.config.supports == "bank":
        _, pictures = labelled_pictures(task.bank)
        names = drawn_shots(pictures, task.config)
        positions = {name: pictures[c][image_id] for name in names for c, image_id in [parse_shot_name(name)]}
        tables = {
            part_name(number): {name: positions[name] for name in names[start : start + SHOTS]}
            for number, start in enumerate(range(0, len(names), SHOTS))
        }
        function = functools.partial(_write_shots, task=task, tables=tables)
        table_names = list(tables)
    else:
        function = functools.partial(_write_candidates, task=task)
        table_names = plan.tables()
    run_parts(
        table_names,
        function,
        stage=f"{stage} supports",
        finished=finished_tables(task.masks()),
        workers=workers,
        failures=failures,
    )


def _write_candidates(table: str, *, task: RelabelTask) -> dict[str, int]:
    return {"images": write_candidate_supports(task.masks(), table, task.masks_before(), task.image_size)}


def _write_shots(table: str, *, task: RelabelTask, tables: Mapping[str, Mapping[str, Position]]) -> dict[str, int]:
    labelled = labelled_masks(task.bank)
    return {"images": write_shots(task.masks(), table, tables[table], labelled, task.image_size)}
