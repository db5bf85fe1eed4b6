"""The acceptance job: no Ray, no mask made again, a file and a report."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fss.collection import Collection
from fss.collection.config import AcceptanceRule
from fss.collection.mask_set_files import list_files
from fss.saliency import SaliencyConfig
from fss.saliency.pseudomask import pseudomask_part
from fss.tracking.run import tracking_client
from pipelines.accept import run
from pipelines.masks import acceptance_report
from pipelines.masks.config import AcceptConfig
from pipelines.runtime import ray_session
from pipelines.runtime.config import TrackingConfig


@pytest.fixture(scope="module")
def masked(paint: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Collection:
    collection = Collection.open(paint(tmp_path_factory.mktemp("accept") / "collection", count=12))
    collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    for part in collection.part_names():
        pseudomask_part(collection.uri, "saliency", part, SaliencyConfig())
    return collection


def test_a_filter_over_what_is_stored(
    masked: Collection, tracking: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_session.ray, "init", lambda **_: pytest.fail("Ray was started"))
    folder, parts = Path(masked.uri, "metadata/saliency"), Path(masked.uri, "masks/saliency")
    before = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*")}
    config = AcceptConfig(collection=masked.uri, tracking=tracking)
    wide = run(replace(config, acceptance="wide", rule=AcceptanceRule(quantile=1.0)))
    half = run(replace(config, acceptance="half", rule=AcceptanceRule(quantile=0.5)))
    assert {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*")} == before
    masks = masked.mask_set("saliency")
    assert masks.read_acceptance("half").accepted < masks.read_acceptance("wide").accepted
    assert len(masks.read_acceptance("half").accepted) == half.counts["accepted"] == round(wide.counts["accepted"] / 2)
    assert sum(n for name, n in half.counts.items() if name != "images") == half.counts["images"] == 12
    report = json.loads((folder / "report-half.json").read_text())
    assert report["rule"]["quantile"] == 0.5 and sum(report["area"]["all"]) == 12
    assert (folder / "report-half.md").read_text().startswith("# saliency of ")
    assert not (folder / "summary.json").exists(), "it is the summary of the job that made the masks"
    logged = tracking_client(str(tracking.uri)).get_run(half.run_id).data
    assert logged.metrics["total/accepted"] == half.counts["accepted"]
    assert (logged.params["rule.quantile"], logged.params["mask_set"]) == ("0.5", "saliency")


def test_the_best_and_worst_masks_are_those_of_the_quality_that_the_sheets_show() -> None:
    table = pa.table({"image_id": list("abcde"), "error": pa.array([None] * 5, pa.string())})
    qualities = np.array([0.2, np.nan, 0.9, 0.5, 0.1])
    accepted = np.array([0, 3, 2])  # of two clusters, the best of each first
    groups = acceptance_report._groups(table, accepted, qualities, 0)
    assert (groups["best"].tolist(), groups["worst"].tolist()) == ([2, 3, 0], [0, 3, 2])
    assert sorted(groups["random"].tolist()) == [0, 2, 3] and sorted(groups["rejected"].tolist()) == [1, 4]


def test_a_dry_run_writes_nothing(masked: Collection, tracking: TrackingConfig) -> None:
    result = run(AcceptConfig(collection=masked.uri, acceptance="dry", tracking=tracking, dry_run=True))
    assert result.metrics == {"parts": 3}
    assert result.inputs["--quantile"] == 0.65
    assert not list(Path(masked.uri).rglob("*dry*"))


def test_an_acceptance_of_the_same_name_is_replaced(masked: Collection, tracking: TrackingConfig) -> None:
    config = AcceptConfig(collection=masked.uri, acceptance="again", tracking=tracking)
    run(config)
    first = masked.mask_set("saliency").read_acceptance("again").hash
    run(replace(config, rule=AcceptanceRule(scores=("separation",), gates=())))
    second = masked.mask_set("saliency").read_acceptance("again")
    assert second.hash != first and second.rule["scores"] == ["separation"]


def test_overwriting_a_set_takes_acceptances_and_reports_with_it(
    paint: Callable[..., str], tmp_path: Path, tracking: TrackingConfig
) -> None:
    collection = Collection.open(paint(tmp_path / "c", count=4))
    collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    pseudomask_part(collection.uri, "saliency", "part-00000", SaliencyConfig())
    run(AcceptConfig(collection=collection.uri, tracking=tracking))
    collection.create_mask_set("saliency", config_hash="1" * 16, provenance={}, overwrite=True)
    assert list_files(f"{collection.uri}/metadata/saliency") == ["set.json"]
    assert list_files(f"{collection.uri}/masks/saliency") == []


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"mask_set": "nothing"}, "no mask set"),
        ({"collection": "/nowhere"}, "there is no collection at /nowhere"),
        ({"collection": ""}, "--collection is required"),
    ],
)
def test_mistakes_are_told(
    masked: Collection, mistake: dict[str, object], message: str, tracking: TrackingConfig
) -> None:
    with pytest.raises(ValueError, match=message):
        run(AcceptConfig(**{"collection": masked.uri, "tracking": tracking} | mistake))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"quantile": 2.0}, r"quantile must be less than or equal to 1"),
        ({"scores": ("beauty",)}, "no scores beauty"),
    ],
)
def test_a_rule_that_cannot_be_applied_is_told(
    masked: Collection, rule: dict[str, Any], message: str, tracking: TrackingConfig
) -> None:
    with pytest.raises(ValueError, match=message):
        run(AcceptConfig(collection=masked.uri, rule=AcceptanceRule(**rule), tracking=tracking))


def test_a_set_without_parts_is_told(paint: Callable[..., str], tmp_path: Path, tracking: TrackingConfig) -> None:
    collection = Collection.open(paint(tmp_path / "c", count=4))
    collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    with pytest.raises(ValueError, match="no finished part"):
        run(AcceptConfig(collection=collection.uri, tracking=tracking))
