"""GPUs of every machine of the cluster, as Ray, the driver and torch count them, as JSON; ``fss doctor`` shows it.

    python -m pipelines.runtime.gpu_report

It joins the cluster of ``RAY_ADDRESS``, or starts a local Ray as a job does.
"""

import json
import os
from typing import Any

from fss.core.exit_codes import exit_cleanly

ANSWER_S = 60.0
"""Seconds in which a machine has to answer."""


def report() -> list[dict[str, Any]]:
    """Return the counts of every machine, in a Ray session.

    ``address`` is the machine's, ``ray``, ``driver`` and ``torch`` are numbers of GPUs, and ``problem`` is why torch
    can use none, or None. A machine that does not answer has no ``driver`` and ``torch``.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    task = ray.remote(num_cpus=0, max_calls=1)(views)
    pinned = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    answers = [task.options(scheduling_strategy=each).remote() for each in pinned]
    ready, _ = ray.wait(answers, num_returns=len(answers), timeout=ANSWER_S)
    rows = []
    for node, answer in zip(nodes, answers, strict=True):
        silent = {"driver": None, "torch": None, "problem": f"it did not answer within {ANSWER_S:.0f} s"}
        seen = ray.get(answer) if answer in ready else silent
        rows.append({"address": node["NodeManagerAddress"], "ray": int(node["Resources"].get("GPU", 0)), **seen})
    return rows


def views() -> dict[str, Any]:
    """Return the GPUs that the driver and torch see on this machine, in a fresh process."""
    # Ray hides all GPUs from a task that takes none. torch reads the variable when it is first used.
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        del os.environ["CUDA_VISIBLE_DEVICES"]
    import torch

    from fss.core.system import gpu_count, gpu_problem

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"driver": gpu_count(), "torch": count, "problem": gpu_problem() if gpu_count() or count else None}


def main() -> None:
    """Run from the command line."""
    from pipelines.runtime.ray_session import ray_session

    with exit_cleanly("gpu_report"), ray_session():
        print(json.dumps(report()))


if __name__ == "__main__":
    main()
