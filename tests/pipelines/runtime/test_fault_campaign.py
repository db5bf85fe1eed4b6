"""A sample of the fault campaign: ``tests/benchmarks/fault_campaign.py`` is all of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[2] / "benchmarks" / "fault_campaign.py"


@pytest.mark.slow
def test_a_worker_a_driver_and_a_node_are_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    words = ["--kills", "4", "--jobs", "pseudomask", "ingest", "relabel", "pseudomask", "--pictures", "48"]
    # A process of its own: the suite's Ray would give its address to the campaign's nodes.
    ended = subprocess.run(
        [sys.executable, CAMPAIGN, *words, "--output", tmp_path / "campaign"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    done = json.loads((tmp_path / "campaign" / "campaign.json").read_text())
    assert [one["fault"] for one in done] == ["worker", "driver", "node", "Ctrl-C"]
    assert [one["wrong"] for one in done] == [""] * 4
    assert (tmp_path / "campaign" / "campaign.md").read_text().count("identical") == 4
    assert (tmp_path / "campaign" / "campaign.png").read_bytes().startswith(b"\x89PNG")
