"""Collections that version 0.1 wrote: they open and resume, and their hashes are unchanged."""

import contextlib
import importlib.util
from pathlib import Path

import pandas as pd
import pyarrow.dataset as pa_dataset
import pyarrow.parquet as pq
import pytest

from fss.cli.main import main
from fss.collection import Collection, mask_set_files, part_io
from fss.collection.config import AcceptanceRule, SourceConfig
from fss.collection.upgrade import Upgrade, upgrade_collection
from fss.core.config import config_hash, from_dict
from fss.images.limits import DecodeLimits
from fss.relabel import feature_tables
from tests.helpers.old_collection import RULE as RULE_OF_HALF
from tests.helpers.old_collection import old_collection

PARTS = ["part-00000", "part-00001", "part-00002"]
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


def state(collection: Collection) -> list[object]:
    """Return what a reader sees of the set ``saliency``."""
    masks = collection.mask_set("saliency")
    accepted = masks.read_acceptance("half")
    tables = [feature_tables.read(masks, kind, part) for kind in mask_set_files.TABLES for part in PARTS]
    rows = [masks.read_part(part).to_pylist() for part in PARTS]
    files = mask_set_files.list_files(collection.uri)
    assert any(name.endswith("report-half.md") for name in files)
    return [masks.metadata, masks.acceptance_names(), accepted.rule, accepted.hash, accepted.accepted, tables, rows]


def test_an_old_collection_opens_resumes_and_moves_its_files(tmp_path: Path) -> None:
    collection = old_collection(tmp_path / "c")
    masks = collection.mask_set("saliency")
    assert collection.mask_set_names() == ["saliency"] and masks.finished_parts() == set(PARTS)
    assert masks.read_acceptance("half").hash == config_hash(
        RULE_OF_HALF, sorted(masks.read_acceptance("half").accepted)
    )
    before = state(collection)
    resumed = collection.create_mask_set("saliency", config_hash=masks.config_hash, provenance={})
    assert resumed.finished_parts() == set(PARTS)
    assert state(collection) == before
    assert mask_set_files.list_files(masks.uri) == [f"{part}.parquet" for part in PARTS]
    assert feature_tables.finished(resumed, "features") == set(PARTS)


@pytest.mark.parametrize("killed", range(12))
def test_a_move_may_be_killed_at_any_file(tmp_path: Path, killed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = old_collection(tmp_path / "c")
    before, delete, count = state(collection), part_io.delete, iter(range(99))
    with monkeypatch.context() as patch:
        patch.setattr(part_io, "delete", lambda uri: delete(uri) if next(count) < killed else 1 / 0)
        with contextlib.suppress(ZeroDivisionError):
            mask_set_files.move_metadata(collection.uri, "saliency")
    assert collection.mask_set_names() == ["saliency"]
    if killed:
        assert state(collection)[:-2] == before[:-2]
    assert mask_set_files.move_metadata(collection.uri, "saliency") == (killed < 9)
    assert state(collection) == before


def test_every_folder_of_parquet_holds_one_schema_and_nothing_else(tmp_path: Path) -> None:
    collection = old_collection(tmp_path / "c")
    mask_set_files.move_metadata(collection.uri, "saliency")
    folders = sorted({path.parent for path in tmp_path.rglob("*.parquet")})
    assert len(folders) == 5, "images, masks, acceptances, features, neighbours"
    for folder in folders:
        files = list(folder.iterdir())
        assert all(file.suffix == ".parquet" for file in files)
        rows = sum(pq.read_metadata(file).num_rows for file in files)
        assert len(pd.read_parquet(folder)) == len(pa_dataset.dataset(folder).to_table()) == rows
        for module, read in (("duckdb", _duckdb), ("datasets", _datasets)):
            if importlib.util.find_spec(module):
                assert read(folder) == rows


def _duckdb(folder: Path) -> int:
    return int(importlib.import_module("duckdb").sql(f"select count(*) from read_parquet('{folder}/*')").fetchone()[0])


def _datasets(folder: Path) -> int:
    datasets = importlib.import_module("datasets")
    return len(datasets.load_dataset("parquet", data_dir=str(folder), cache_dir=f"{folder}.cache")["train"])


def test_an_upgrade_changes_no_row_and_may_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = old_collection(tmp_path / "c")
    before, images = state(collection), [collection.read_part(part).to_pylist() for part in PARTS]
    fingerprint, write, count = collection.fingerprint(), part_io.write, iter(range(99))
    monkeypatch.setattr(part_io, "ROW_GROUP", 4)
    with monkeypatch.context() as patch:
        patch.setattr(part_io, "write", lambda *words: write(*words) if next(count) < 3 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            upgrade_collection(Collection.open(collection.uri))
    assert Collection.open(collection.uri).metadata["format"] == 1 and state(collection) == before
    with pytest.raises(SystemExit) as ended:
        main(["collection", "upgrade", collection.uri])
    assert ended.value.code == 0 and "2 (was 1)" in capsys.readouterr().out
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert upgrade_collection(Collection.open(collection.uri)) == Upgrade(format=2, moved=0, rewritten=0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == files
    upgraded = Collection.open(collection.uri)
    assert upgraded.metadata["format"] == 2 and upgraded.fingerprint() == fingerprint
    assert [upgraded.read_part(part).to_pylist() for part in PARTS] == images and state(upgraded) == before
