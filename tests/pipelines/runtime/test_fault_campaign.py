"""A sample of the fault campaign: ``tests/benchmarks/fault_campaign.py`` is all of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[2] / "benchmarks" / "fault_campaign.py"
JOBS = ["pseudomask", "ingest", "relabel", "train", "train_saliency"]
FAULTS = ["worker", "S3 10 %", "driver", "MLflow", "node", "SIGTERM", "twin", "Ctrl-C", "SQLite"]


@pytest.mark.slow
def test_jobs_are_disturbed_in_ten_ways_and_nothing_is_lost(tmp_path: Path) -> None:
    words = ["--kills", "10", "--pictures", "48", "--jobs", *JOBS, "--faults", *FAULTS]
    # A process of its own: the suite's Ray would give its address to the campaign's nodes.
    ended = subprocess.run(
        [sys.executable, CAMPAIGN, *words, "--output", tmp_path / "campaign"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    done = json.loads((tmp_path / "campaign" / "campaign.json").read_text())
    assert [one["job"] for one in done] == 2 * JOBS
    assert len({one["fault"] for one in done}) >= 7, "a mix"
    assert [one["wrong"] for one in done] == [""] * 10
    assert (tmp_path / "campaign" / "campaign.md").read_text().count("identical") == 10
    assert (tmp_path / "campaign" / "campaign.png").read_bytes().startswith(b"\x89PNG")
