"""The ledger of claims: states by hand, resuming, and the files that it writes."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from fss.evaluation.claims import parse_claims
from fss.evaluation.claims_ledger import Ledger, LedgerEntry, claim_state, to_csv, to_markdown

CLAIMS = parse_claims(
    "source,dataset,model,masking,backbone,shots,metric,claimed\n"
    "A,FSS-1000,HSNet,hybrid,ResNet-50,1,mIoU,87.1\n"
    "B,PASCAL-5i,VAT,feature,ResNet-101,5,mIoU,71.6\n"
)
MEASURED = LedgerEntry(
    claim=CLAIMS[1],
    state="short",
    result=70.0,
    folds={"fold0": 69.0, "fold1": 71.0},
    protocol="hsnet",
    episodes=1000,
    plans={"fold0": "abc", "fold1": "def"},
    commands=("python -m pipelines.evaluate --fold 0",),
    run_id="run",
)


@pytest.mark.parametrize(
    ("result", "state"), [(87.1, "verified"), (86.6, "verified"), (86.59, "short"), (99, "verified")]
)
def test_half_a_point_below_the_claim_is_verified(result: float, state: str) -> None:
    assert claim_state(CLAIMS[0], result, tolerance=0.5) == state


def test_a_baseline_without_a_published_value_is_measured() -> None:
    (baseline,) = parse_claims(
        "source,dataset,model,masking,backbone,shots,metric,claimed\nours,PASCAL-5i,density,none,ResNet-50,1,mIoU,\n"
    )
    assert claim_state(baseline, 1.0, tolerance=0.5) == "measured"
    entry = replace(MEASURED, claim=baseline, state="measured", result=31.4)
    assert entry.difference is None
    assert "| 1 |  | 31.4 |  | measured (hsnet, " in to_markdown([entry])


def test_a_ledger_starts_empty_and_resumes(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), CLAIMS)
    assert ledger.counts() == {"verified": 0, "short": 0, "measured": 0, "not run": 2}
    ledger.put(MEASURED)
    again = Ledger(str(tmp_path), CLAIMS)
    assert again[CLAIMS[1]] == MEASURED
    assert again.counts() == {"verified": 0, "short": 1, "measured": 0, "not run": 1}
    assert {path.name for path in tmp_path.iterdir()} == {"ledger.json", "ledger.csv", "ledger.md"}


def test_a_result_is_not_replaced_by_not_run(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), CLAIMS)
    ledger.put(MEASURED)
    ledger.put(LedgerEntry(claim=CLAIMS[1], missing=("the checkpoint",)))
    assert ledger[CLAIMS[1]] == MEASURED
    better = replace(MEASURED, state="verified", result=72.0)
    ledger.put(better)
    assert ledger[CLAIMS[1]] == better


def test_a_ledger_of_other_claims_is_rejected(tmp_path: Path) -> None:
    Ledger(str(tmp_path), CLAIMS).write()
    with pytest.raises(ValueError, match="other claims"):
        Ledger(str(tmp_path), CLAIMS[:1])


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"state": "won"}}'])
def test_a_damaged_ledger_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text(content)
    with pytest.raises(ValueError, match=r"the ledger .*ledger\.json is damaged: .*Delete it, and the claims"):
        Ledger(str(tmp_path), CLAIMS)


def test_the_tables_by_hand() -> None:
    entries = [LedgerEntry(claim=CLAIMS[0], missing=("a collection of fss", "weights | more")), MEASURED]
    lines = to_markdown(entries).splitlines()
    assert lines[2].endswith("| 87.1 |  |  | not run: a collection of fss; weights / more |")
    assert lines[3].endswith("| 71.6 | 70.0 | -1.6 | short (hsnet, 1000 episodes a fold, plan abc, def) |")
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert lines[-1] == "2 claims: 0 verified, 1 short, 0 measured, 1 not run. Metrics in percent."
    first, second = csv.DictReader(io.StringIO(to_csv(entries)))
    assert (first["state"], first["ours"], first["difference"]) == ("not run", "", "")
    assert (second["ours"], second["difference"], second["plans"]) == (
        "70.00",
        "-1.60",
        '{"fold0": "abc", "fold1": "def"}',
    )


def test_the_state_names_the_training_of_a_model() -> None:
    (line,) = [
        line
        for line in to_markdown([replace(MEASURED, training="trained here with 8 episodes")]).splitlines()
        if "VAT" in line
    ]
    assert line.endswith("(hsnet, 1000 episodes a fold, plan abc, def, trained here with 8 episodes) |")
    assert "trained" not in to_markdown([MEASURED])
