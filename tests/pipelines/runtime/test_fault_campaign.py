"""A sample of the fault campaign: ``tests/benchmarks/fault_campaign.py`` is all of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[2] / "benchmarks" / "fault_campaign.py"


@pytest.mark.slow
def test_jobs_are_killed_stopped_and_left_without_mlflow_and_nothing_is_lost(tmp_path: Path) -> None:
    words = ["--kills", "10", "--jobs", "pseudomask", "ingest", "relabel", "train", "--pictures", "48"]
    # A process of its own: the suite's Ray would give its address to the campaign's nodes.
    ended = subprocess.run(
        [sys.executable, CAMPAIGN, *words, "--output", tmp_path / "campaign"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    done = json.loads((tmp_path / "campaign" / "campaign.json").read_text())
    faults = ["worker", "driver", "node", "Ctrl-C", "MLflow", "SQLite", "worker", "driver", "Ctrl-C", "SIGTERM"]
    assert [one["fault"] for one in done] == faults
    assert [one["wrong"] for one in done] == [""] * 10
    assert (tmp_path / "campaign" / "campaign.md").read_text().count("identical") == 10
    assert (tmp_path / "campaign" / "campaign.png").read_bytes().startswith(b"\x89PNG")
