"""The acceptance job: no Ray, no mask made again, a file and a report."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fss.collection import Collection
from fss.collection.config import AcceptanceRule
from fss.saliency import SaliencyConfig
from fss.saliency.pseudomask import pseudomask_part
from pipelines.accept import run
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
    folder = Path(masked.uri, "masks/saliency")
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    config = AcceptConfig(collection=masked.uri, tracking=tracking)
    wide = run(replace(config, acceptance="wide", rule=AcceptanceRule(quantile=1.0)))
    half = run(replace(config, acceptance="half", rule=AcceptanceRule(quantile=0.5)))
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")} == before
    masks = masked.mask_set("saliency")
    assert masks.read_acceptance("half").accepted < masks.read_acceptance("wide").accepted
    assert len(masks.read_acceptance("half").accepted) == half.counts["accepted"] == round(wide.counts["accepted"] / 2)
    assert sum(n for name, n in half.counts.items() if name != "images") == half.counts["images"] == 12
    report = json.loads((folder / "report-half.json").read_text())
    assert report["rule"]["quantile"] == 0.5 and sum(report["area"]["all"]) == 12
    assert (folder / "report-half.md").read_text().startswith("# saliency of ")


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
    assert [path.name for path in Path(collection.uri, "masks/saliency").iterdir()] == ["_set.json"]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"name": "nothing"}, "no mask set"),
    ],
)
def test_mistakes_are_told(
    masked: Collection, mistake: dict[str, object], message: str, tracking: TrackingConfig
) -> None:
    with pytest.raises(ValueError, match=message):
        run(AcceptConfig(**{"collection": masked.uri, "tracking": tracking} | mistake))


def test_a_set_without_parts_is_told(paint: Callable[..., str], tmp_path: Path, tracking: TrackingConfig) -> None:
    collection = Collection.open(paint(tmp_path / "c", count=4))
    collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    with pytest.raises(ValueError, match="no finished part"):
        run(AcceptConfig(collection=collection.uri, tracking=tracking))
