"""The published claims: complete, unique, selectable and strictly parsed."""

import pytest

from fss.evaluation.claims import COLUMNS, parse_claims, read_claims, select_claims

HEADER = ",".join(COLUMNS)


def test_the_ledger_has_every_published_row():
    claims = read_claims()
    assert len(claims) == 69
    assert [claim.row for claim in claims] == list(range(1, 70))
    assert {claim.dataset for claim in claims} == {"PASCAL-5i", "COCO-20i", "FSS-1000", "COCO-20i -> PASCAL VOC"}
    assert {claim.model for claim in claims} == {"HSNet", "ASNet", "VAT", "MaskSplit", "density", "FSSDINO"}
    assert {claim.model for claim in claims if claim.claimed is None} == {"density"}


def test_published_values():
    claims = read_claims()
    (claim,) = select_claims(
        claims, dataset="pascal-5i", model="hsnet", masking="hybrid", backbone="resnet-101", shots=5
    )
    assert claim.claimed == 69.3
    (other,) = select_claims(claims, dataset="COCO-20i", model="HSNet", shots=1, backbone="ResNet-50", source="iccv")
    assert (other.claimed, other.masking) == (39.2, "feature")


def test_keys_are_unique_and_plain():
    keys = [claim.key for claim in read_claims()]
    assert len(set(keys)) == len(keys)
    assert keys[0] == "hsnet-hybrid-resnet50-coco-20i-1shot-hm-eccv-2022"
    assert all(key.replace("-", "").isalnum() for key in keys)


def test_an_empty_selection_lists_the_values_that_occur():
    with pytest.raises(ValueError, match="ASNet, FSSDINO, HSNet, MaskSplit, VAT, density"):
        select_claims(read_claims(), model="PFENet")


def test_invalid_ledgers_are_rejected():
    with pytest.raises(ValueError, match="columns"):
        parse_claims("source,claimed\na,1\n")
    with pytest.raises(ValueError, match="row 1"):
        parse_claims(f"{HEADER}\na,b,c,none,d,one,mIoU,50\n")
    with pytest.raises(ValueError, match="percent"):
        parse_claims(f"{HEADER}\na,b,c,none,d,1,mIoU,150\n")
    with pytest.raises(ValueError, match="row 1"):
        parse_claims(f"{HEADER}\na,b,c\n")
