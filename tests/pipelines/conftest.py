"""What the tests of the jobs share: small collections of painted pictures, and one MLflow store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fss.collection.ingest import ingest_part, start
from fss.collection.sources import SourceConfig
from pipelines.common.runs import TrackingConfig


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    return TrackingConfig(uri=f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db")


Paint = Callable[..., str]


@pytest.fixture(scope="session")
def paint() -> Paint:
    """Make a collection of painted pictures without Ray; returns its URI."""

    def make(uri: Path, *, count: int, labelled: bool = False, part_size: int = 4) -> str:
        source = SourceConfig(kind="sample", sample="labelled" if labelled else "unlabelled", count=count)
        ingest = start(str(uri), source, part_size=part_size)
        for part in ingest.parts:
            ingest_part(ingest.collection.uri, part)
        return ingest.collection.uri

    return make
