"""A sample of the fault campaign: ``tests/benchmarks/fault_campaign.py`` is all of it."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))


@pytest.mark.slow
def test_a_worker_a_driver_and_a_node_are_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    from fault_campaign import CampaignConfig, run

    config = CampaignConfig(
        kills=4, jobs=("pseudomask", "ingest", "relabel", "pseudomask"), pictures=48, out=tmp_path / "campaign"
    )
    done = run(config)
    assert [one.fault for one in done] == ["worker", "driver", "node", "Ctrl-C"]
    assert [one.wrong for one in done] == [""] * 4
    assert len(json.loads((config.out / "campaign.json").read_text())) == 4
    assert (config.out / "campaign.md").read_text().count("identical") == 4
    assert (config.out / "campaign.png").read_bytes().startswith(b"\x89PNG")
