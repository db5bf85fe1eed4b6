"""Results of single episodes as a table, one row per plan, method and episode, for further statistics."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fss.core import storage
from fss.evaluation.evaluator import EvaluationResult
from fss.evaluation.example_gallery import episode_ious

SCHEMA = pa.schema(
    [
        pa.field("plan", pa.string(), nullable=False),
        pa.field("shots", pa.int32(), nullable=False),
        pa.field("episode", pa.int64(), nullable=False),
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("object_share", pa.float64(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("intersection_background", pa.int64(), nullable=False),
        pa.field("intersection_foreground", pa.int64(), nullable=False),
        pa.field("union_background", pa.int64(), nullable=False),
        pa.field("union_foreground", pa.int64(), nullable=False),
        pa.field("iou", pa.float64()),
    ]
)
"""Schema of the table. ``object_share`` is defined in :mod:`fss.evaluation.object_sizes`. Intersections and unions are
in pixels, without void. ``iou`` is the foreground IoU, null where the union is empty."""


def episode_table(results: Sequence[EvaluationResult]) -> pa.Table:
    """Return one row per plan, method and episode."""
    tables = [_method_table(result, method) for result in results for method in result.counts]
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def write_episode_table(uri: str, results: Sequence[EvaluationResult]) -> None:
    """Write the table as Parquet, atomically, to a local path or s3:// URI."""
    sink = pa.BufferOutputStream()
    pq.write_table(episode_table(results), sink)
    storage.write_atomically(*storage.resolve(uri), sink.getvalue())


def _method_table(result: EvaluationResult, method: str) -> pa.Table:
    counts, count = result.counts[method], len(result.plan)
    columns: dict[str, Any] = {
        "plan": [result.plan.hash] * count,
        "shots": [result.plan.shots] * count,
        "episode": [episode.number for episode in result.plan],
        "class_id": result.class_ids,
        "query_id": [episode.query_id for episode in result.plan],
        "object_share": result.shares,
        "method": [method] * count,
        "intersection_background": counts[:, 0, 0],
        "intersection_foreground": counts[:, 0, 1],
        "union_background": counts[:, 1, 0],
        "union_foreground": counts[:, 1, 1],
        "iou": pa.array(episode_ious(counts), from_pandas=True),
    }
    return pa.table(columns, SCHEMA)
