"""The training worker with system metrics of its machine, beside those of the driver's machine."""

from typing import Any

import ray
import ray.train

from fss.tracking.run import Run
from fss.tracking.system_metrics import monitor_system
from pipelines.training.worker import train_worker


def monitored_worker(settings: dict[str, Any]) -> None:
    """Train on this rank; the first worker of each machine but the driver's logs the metrics of the machine.

    Args:
        settings: the settings of ``train_worker``, and ``driver_node``, Ray's id of the driver's machine.
    """
    context = ray.train.get_context()
    if context.get_local_rank() or ray.get_runtime_context().get_node_id() == settings["driver_node"]:
        train_worker(settings)
        return
    run = Run(**settings["run"])
    with monitor_system(run, node=f"node-{context.get_node_rank()}"):
        train_worker(settings)
