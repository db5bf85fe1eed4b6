"""What the tests of the jobs share: small collections of painted pictures, one MLflow store, and a sudden death."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fss.collection import Collection, ingest_local
from fss.collection.sources import SourceConfig
from fss.core.config import save
from pipelines.runtime.config import TrackingConfig
from pipelines.training.config import TrainJobConfig
from tests.helpers.stores import fresh_store


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    return TrackingConfig(uri=fresh_store(tmp_path_factory.mktemp("tracking")))


Paint = Callable[..., str]


@pytest.fixture(scope="session")
def paint() -> Paint:
    """Make a collection of painted pictures without Ray; returns its URI."""

    def make(uri: Path, *, count: int, labelled: bool = False, part_size: int = 4) -> str:
        source = SourceConfig(kind="sample", sample="labelled" if labelled else "unlabelled", count=count)
        return ingest_local(source, str(uri), part_size=part_size).uri

    return make


@pytest.fixture(scope="session")
def paint_masked(paint: Paint) -> Paint:
    """Make a painted collection whose truth is also its accepted mask set "saliency"."""

    def make(uri: Path, *, count: int, part_size: int = 4) -> str:
        collection = Collection.open(paint(uri, count=count, labelled=True, part_size=part_size))
        masks = collection.create_mask_set("saliency", config_hash="a" * 16, provenance={"method": "test"})
        for name in collection.part_names():
            masks.write_part(name, collection.mask_set("truth").read_part(name))
        masks.write_acceptance("default", {}, [name for ids in collection.image_ids().values() for name in ids])
        return collection.uri

    return make


Kill = Callable[[TrainJobConfig, Path], Path]


@pytest.fixture(scope="session")
def kill_after_a_checkpoint() -> Kill:
    """Start a training in a process of its own and kill it at its first checkpoint; returns where checkpoints are."""

    def kill(config: TrainJobConfig, folder: Path) -> Path:
        save(config, folder / "config.json")
        code = (
            "import sys; from fss.core.config import load; from pipelines.training.config import TrainJobConfig; "
            "from pipelines.train import run; run(load(TrainJobConfig, sys.argv[1]))"
        )
        job = subprocess.Popen(
            [sys.executable, "-c", code, str(folder / "config.json")], start_new_session=True, stderr=subprocess.DEVNULL
        )
        snapshots = Path(config.output) / f"ray/{config.name}"
        deadline = time.monotonic() + 300
        while not list(snapshots.glob("checkpoint_*/progress.json")):
            assert job.poll() is None, "the training ended before it could be killed"
            assert time.monotonic() < deadline, "there was no checkpoint in five minutes"
            time.sleep(0.05)
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        return snapshots

    return kill
