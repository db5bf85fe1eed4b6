"""Runs of jobs: continued after a stop, one child per stage."""

from pathlib import Path

import pytest

from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.mlflow_run import job_run
from tests.helpers.stores import fresh_store


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    return TrackingConfig(uri=fresh_store(tmp_path_factory.mktemp("runs")))


def test_a_failed_job_goes_on_with_its_run_and_its_child(tracking: TrackingConfig, tmp_path: Path) -> None:
    ids = []
    for fails in (True, False):
        try:
            with (
                job_run("masksplit", job="masksplit", key="k1", tracking=tracking) as parent,
                job_run("train", job="train", key="t1", tracking=tracking, parent=parent) as child,
            ):
                ids.append((parent.run_id, child.run_id))
                if fails:
                    raise RuntimeError("killed")
        except RuntimeError:
            pass
        assert not Path(str(parent.spool)).exists()  # nobody would delete a temporary one later
    assert ids[0] == ids[1]


def test_a_finished_job_and_another_parent_get_new_runs(tracking: TrackingConfig) -> None:
    seen = set()
    for _ in range(2):
        with job_run("masksplit", job="masksplit", key="k2", tracking=tracking) as parent:
            seen.add(parent.run_id)
            with (
                pytest.raises(RuntimeError),
                job_run("train", job="train", key="same", tracking=tracking, parent=parent) as child,
            ):
                seen.add(child.run_id)
                raise RuntimeError
    assert len(seen) == 4


def test_fresh_never_continues(tracking: TrackingConfig) -> None:
    ids = []
    for _ in range(2):
        with pytest.raises(RuntimeError), job_run("x", job="x", key="k3", tracking=tracking, fresh=True) as run:
            ids.append(run.run_id)
            raise RuntimeError
    assert ids[0] != ids[1]
