"""Classes that the batches of a training show, for sources with one class after another.

Each source is ingested in its own order, like collections of earlier versions, and shuffled. A training's lanes read
both collections.

    python -m tests.benchmarks.bench_mixing [--classes 1000] [--pictures 32]
"""

import argparse
import tempfile
from pathlib import Path

from fss.collection import ingest_local
from fss.collection.config import SourceConfig
from tests.helpers.mixing import BATCH, shown_classes, uniform_classes, write_source

STEPS = 200


def main() -> None:
    """Print a row for each kind of source, order and size of the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--pictures", type=int, default=32, help="pictures of each class")
    parser.add_argument("--kinds", nargs="+", default=["folder", "webdataset", "parquet"])
    parser.add_argument("--part-size", type=int, nargs="+", default=[0], help="photographs per part; 0: the default")
    options = parser.parse_args()
    uniform = [uniform_classes(options.classes, BATCH * steps) for steps in (1, STEPS)]
    print(f"uniform: {uniform[0]:.2f} classes in a batch of {BATCH}, {uniform[1]:.0f} in {STEPS} steps")
    print(f"{'kind':11} {'parts of':>8} {'order':9} {'a batch':>8} {'steps':>6} {'of uniform':>10}")
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            path = write_source(Path(folder, "source"), kind, options.classes, options.pictures)
            for part_size in options.part_size:
                for order in ("source", "shuffled"):
                    source = SourceConfig(kind=kind, path=path, order=order)
                    collection = ingest_local(source, f"{folder}/{order}-{part_size}", part_size=part_size or None)
                    batch, steps = shown_classes(collection, options.pictures, STEPS)
                    share = f"{batch / uniform[0]:.1%}"
                    print(
                        f"{kind:11} {collection.part_size:8} {order:9} {batch:8.2f} {steps:6} {share:>10}", flush=True
                    )


if __name__ == "__main__":
    main()
