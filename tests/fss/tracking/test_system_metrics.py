"""The utilisation of the machine is logged."""

import time
from pathlib import Path

import pytest

from fss.tracking.lifetime import end_on_exit
from fss.tracking.run import Run, tracking_client
from fss.tracking.system_metrics import monitor_system
from tests.helpers.stores import fresh_store


def test_the_machine_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    uri = fresh_store(tmp_path)
    with end_on_exit(Run.start("busy", uri=uri)) as run:
        for node in (None, "node-1"):
            with monitor_system(run, node=node):
                time.sleep(1.0)
    metrics = tracking_client(uri).get_run(run.run_id).data.metrics
    assert 0 <= metrics["system/cpu_utilization_percentage"] <= 100
    assert "system/node-1/cpu_utilization_percentage" in metrics
