"""The training worker with an eye on its machine: GPUs and memory of every node, beside the driver's own."""

from typing import Any

import ray
import ray.train

from fss.core.system import monitor_system
from fss.tracking.run import Run
from pipelines.training.worker import train_worker


def monitored_worker(settings: dict[str, Any]) -> None:
    """Train on this rank; the first worker of every machine but the driver's logs that machine's metrics.

    Args:
        settings: as ``train_worker`` takes them, and ``driver_node``: Ray's id of the machine that the job watches.
    """
    context = ray.train.get_context()
    if context.get_local_rank() or ray.get_runtime_context().get_node_id() == settings["driver_node"]:
        train_worker(settings)
        return
    run = Run(**settings["run"])
    with monitor_system(run.run_id, uri=run.uri, node=f"node-{context.get_node_rank()}"):
        train_worker(settings)
