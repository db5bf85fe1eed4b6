"""Benchmark of the part driver: parts per second, driver CPU per part, and the time until machines that join are used.

    python -m tests.benchmarks.bench_dispatch rate --parts 8000
    python -m tests.benchmarks.bench_dispatch ray-data --parts 4000
    python -m tests.benchmarks.bench_dispatch join

``rate`` maps a function that does nothing over parts on a local Ray. ``ray-data`` maps it in three ways with Ray Data.
``join`` starts a Ray cluster on this machine whose head has no CPUs, and adds two nodes of two logical CPUs, then one
with two logical GPUs, while a pass over parts of 0.2 s runs.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from pipelines.runtime.map_parts import OnActors, run_parts
from pipelines.runtime.ray_session import ray_session

PART_S = 0.2


def driver_cpu() -> float:
    """Return the seconds of CPU that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def report(label: str, count: int, work: Callable[[], object]) -> None:
    """Time a pass and print its rates."""
    before, start = driver_cpu(), time.perf_counter()
    work()
    seconds, cpu = time.perf_counter() - start, driver_cpu() - before
    print(f"{label}: {count / seconds:,.0f} parts/s, {1e3 * cpu / count:.2f} ms of driver CPU a part", flush=True)


def do_nothing(name: str) -> dict[str, int]:
    """Make a part of no work."""
    return {"images": 64}


def rate(options: argparse.Namespace) -> None:
    """Map a function that does nothing, three times."""
    names = [f"part-{number:05d}" for number in range(options.parts)]
    with ray_session(), Path(os.devnull).open("w") as quiet:
        run_parts(names[:64], do_nothing, stage="warm-up", out=quiet)
        for _ in range(3):
            report("run_parts", len(names), lambda: run_parts(names, do_nothing, stage="rate", out=quiet))


def on_ray_data(options: argparse.Namespace) -> None:
    """Map a function that does nothing with Ray Data: a block per part, and blocks of many parts."""
    names = [f"part-{number:05d}" for number in range(options.parts)]

    def each(row: dict[str, str]) -> dict[str, Any]:
        return {"part": row["item"], "seconds": 0.0}

    def block(batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        for name in batch["item"]:
            yield {"part": [name], "seconds": [0.0]}

    def pass_over(count: int, blocks: int, block_bytes: int | None = None) -> None:
        data: ray.data.Dataset = ray.data.from_items(names[:count], override_num_blocks=blocks)
        data = data.map(each) if blocks == count else data.map_batches(block, batch_size=None)
        if block_bytes is not None:
            data.context.target_max_block_size = block_bytes
        assert sum(1 for _ in data.iter_rows()) == count

    with ray_session():
        few = min(len(names), 1000)
        pass_over(64, 64)
        report("a block per part", few, lambda: pass_over(few, few))
        report("64 blocks, reported when the block is complete", len(names), lambda: pass_over(len(names), 64))
        report("64 blocks, reported part by part", len(names), lambda: pass_over(len(names), 64, 1))


def sleep(name: str) -> dict[str, Any]:
    """Make a part that takes a while, and return where and when."""
    time.sleep(PART_S)
    return {"node": ray.get_runtime_context().get_node_id(), "time": time.time()}


def sleep_on_gpu(names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make parts that take a while."""
    for name in names:
        yield name, sleep(name)


def joining_driver(stage: str) -> None:
    """Run a pass in a driver of the cluster in RAY_ADDRESS, and print where and when its parts were made."""
    function = OnActors(function=sleep_on_gpu, actors=None, gpus=1, names=2) if stage == "gpu" else sleep
    names = [f"part-{number:05d}" for number in range(120 if stage == "cpu" else 40)]
    with ray_session():
        print("start", time.time(), flush=True)
        rows: list[dict[str, Any]] = []
        run_parts(names, function, stage=stage, on_part=rows.append)
        print(json.dumps(rows))


def join(options: argparse.Namespace) -> None:
    """Start a pass on a head without resources, add nodes, and print when their first parts were finished."""
    with suppress(KeyError):
        del os.environ["RAY_ADDRESS"]
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    environment = os.environ | {"RAY_ADDRESS": cluster.address}
    for stage, nodes in (("cpu", ({"num_cpus": 2}, {"num_cpus": 2})), ("gpu", ({"num_cpus": 2, "num_gpus": 2},))):
        command = [sys.executable, "-m", "tests.benchmarks.bench_dispatch", "driver", "--stage", stage]
        driver = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert driver.stdout is not None
        while not driver.stdout.readline().startswith("start"):
            pass
        time.sleep(6)
        joined = {}
        for resources in nodes:
            node = cluster.add_node(**resources)
            joined[node.node_id if hasattr(node, "node_id") else node.unique_id] = time.time()
            time.sleep(4)
        rows = json.loads(driver.stdout.read().splitlines()[-1])
        assert driver.wait() == 0
        first: dict[str, float] = {}
        for row in rows:
            first[row["node"]] = min(first.get(row["node"], row["time"]), row["time"])
        waits = [moment - start for moment, start in zip(sorted(first.values()), joined.values(), strict=False)]
        print(f"{stage}: {len(rows)} parts on {len(first)} nodes, first part of a node after its start:", end=" ")
        print(", ".join(f"{seconds:.1f} s" for seconds in waits), flush=True)
    cluster.shutdown()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=["rate", "ray-data", "join", "driver"])
    parser.add_argument("--parts", type=int, default=8000)
    parser.add_argument("--stage", choices=["cpu", "gpu"], default="cpu", help="used by join for its own driver")
    options = parser.parse_args()
    if options.benchmark == "driver":
        joining_driver(options.stage)
    else:
        {"rate": rate, "ray-data": on_ray_data, "join": join}[options.benchmark](options)


if __name__ == "__main__":
    main()
