"""Collections that version 0.1 wrote: their settings still open, and their hashes are unchanged."""

from fss.collection.config import AcceptanceRule, SourceConfig
from fss.core.config import config_hash, from_dict
from fss.images.limits import DecodeLimits

SOURCE = {
    "kind": "folder",
    "path": "/data/photos",
    "masks": "auto",
    "background": 0,
    "void": [255],
    "class_names": [],
    "splits": None,
    "subset": "",
    "sample": "unlabelled",
    "count": 256,
    "seed": 0,
}
LIMITS = {"max_bytes": 67108864, "max_pixels": 64000000, "max_side": 32000, "min_side": 16}
RULE = {
    "quantile": 0.65,
    "scores": ["agreement", "contrast", "stability"],
    "gates": ["gate_area", "gate_border", "gate_corners", "gate_span", "gate_component"],
    "within_clusters": False,
}


def test_an_old_source_opens_with_its_identity() -> None:
    source = from_dict(SourceConfig, SOURCE)
    assert source == SourceConfig(path="/data/photos")
    assert source.identity() == "c34d93aeaede6ead"


def test_old_limits_and_rules_open_with_their_hashes() -> None:
    assert DecodeLimits(**LIMITS) == DecodeLimits() and DecodeLimits().as_dict() == LIMITS
    assert from_dict(AcceptanceRule, RULE) == AcceptanceRule()
    assert config_hash(AcceptanceRule()) == "d6a0a19cbadf5fce"
