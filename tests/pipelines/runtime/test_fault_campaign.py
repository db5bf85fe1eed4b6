"""A sample of the fault campaign: ``tests/benchmarks/fault_campaign.py`` is all of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.fault_campaign import CANNOT, CampaignConfig, strike
from tests.helpers.campaign_report import Disturbance, write

ROOT = Path(__file__).parents[3]
JOBS = ["pseudomask", "ingest", "relabel", "train", "train_saliency"]
FAULTS = ["worker", "poison", "S3 10 %", "driver", "MLflow", "node", "SIGTERM", "twin", "Ctrl-C", "SQLite"]


def test_every_job_gets_every_fault_that_it_can_have() -> None:
    config = CampaignConfig(jobs=tuple(JOBS), faults=tuple(FAULTS))
    strikes = [strike(config, number) for number in range(len(JOBS) * len(FAULTS))]
    assert set(strikes) == {(job, fault) for job in JOBS for fault in FAULTS if fault not in CANNOT.get(job, ())}


def test_every_fault_has_a_line_and_a_marker(tmp_path: Path) -> None:
    outcomes = [
        Disturbance(job="ingest", fault=fault, at=0.5, starts=1, seconds=9, undisturbed=8, wrong="") for fault in FAULTS
    ]
    write(outcomes, tmp_path)
    assert (tmp_path / "campaign.md").read_text().count("| identical |") == len(FAULTS)
    assert (tmp_path / "campaign.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_jobs_are_disturbed_in_ten_ways_and_nothing_is_lost(tmp_path: Path) -> None:
    words = ["--kills", "10", "--pictures", "48", "--jobs", *JOBS, "--faults", *FAULTS]
    # A process of its own: the suite's Ray would give its address to the campaign's nodes.
    ended = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.fault_campaign", *words, "--output", tmp_path / "campaign"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    done = json.loads((tmp_path / "campaign" / "campaign.json").read_text())
    assert [one["job"] for one in done] == 2 * JOBS
    assert len({one["fault"] for one in done}) >= 7, "a mix"
    assert [one["wrong"] for one in done] == [""] * 10
    assert (tmp_path / "campaign" / "campaign.md").read_text().count("identical") == 10
    assert (tmp_path / "campaign" / "campaign.png").read_bytes().startswith(b"\x89PNG")
