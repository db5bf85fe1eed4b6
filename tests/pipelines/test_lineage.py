"""From a model back to its photographs, without Ray: checkpoint, run, masks, relabelled masks, collection."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from fss.collection import Collection
from fss.models import create_segmenter, save_checkpoint
from fss.tracking.lifetime import end_on_exit
from fss.tracking.lineage import log_dataset
from fss.tracking.run import Run
from pipelines import lineage
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.result import JobResult

Paint = Callable[..., str]


@pytest.fixture(scope="module")
def collection(paint_masked: Paint, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return Collection.open(paint_masked(tmp_path_factory.mktemp("lineage") / "photos", count=8))


def trained(collection: Collection, mask_set: str, tracking: TrackingConfig, folder: Path) -> Path:
    """Make a checkpoint as a training leaves it, with its run and its data."""
    masks = collection.mask_set(mask_set)
    acceptance = masks.read_acceptance("default")
    with end_on_exit(Run.start("train", uri=tracking.uri, tags={"fss.job": "train"})) as run:
        facts = {"acceptance": "default", "acceptance_hash": acceptance.hash}
        log_dataset(run, masks, context="training", details=facts)
    network = create_segmenter(backbone="timm:test_resnet.r160_in1k", width=32)
    return save_checkpoint(network, folder, extra={"training": {"run_id": run.run_id, "step": 40}})


def test_a_model_leads_back_to_its_photographs(
    collection: Collection, tracking: TrackingConfig, tmp_path: Path
) -> None:
    masks = collection.mask_set("saliency")
    ids = sorted(name for names in collection.image_ids().values() for name in names)
    masks.write_acceptance("default", {"quantile": 0.5}, ids[:4])
    with end_on_exit(Run.start("pseudomask", uri=tracking.uri)) as made:
        JobResult(job="pseudomask", run_id=made.run_id).write(masks.metadata_uri)
    first = trained(collection, "saliency", tracking, tmp_path / "first")

    again = collection.create_mask_set(
        "round-1",
        config_hash="b" * 16,
        provenance={"method": "relabel", "checkpoint": str(first), "source": "saliency"},
    )
    for part in collection.part_names():
        again.write_part(part, masks.read_part(part))
    again.write_acceptance("default", {"quantile": 0.75}, ids[:6])
    second = trained(collection, "round-1", tracking, tmp_path / "second")

    nowhere = TrackingConfig(uri=f"sqlite:///{tmp_path}/none.db")
    told = lineage.run(lineage.LineageConfig(model=str(second), tracking=nowhere)).report
    assert (
        f"there is no MLflow store {tmp_path}/none.db" in told.replace("\n", " ")
        and not (tmp_path / "none.db").exists()
    )

    used = tmp_path / "used.csv"
    result = lineage.run(lineage.LineageConfig(model=str(second), photographs=used, tracking=tracking))
    text = result.report
    for words in (
        "model ",
        "step of the kept model: 40",
        "mask set round-1",
        "method: relabel",
        "mask set saliency",
        made.run_id,
    ):
        assert words in text
    assert f"fingerprint: {collection.fingerprint()}" in text
    assert "8 photographs of the painted sample" in text
    assert "acceptance: default, 6 masks" in text
    assert "CHANGED" not in text
    rows = list(csv.DictReader(used.open()))
    assert [row["image_id"] for row in rows] == ids[:6], "both rounds' photographs, each once"
    assert result.counts == {"photographs": 6}


def test_what_changed_since_is_told(collection: Collection, tracking: TrackingConfig, tmp_path: Path) -> None:
    model = trained(collection, "saliency", tracking, tmp_path / "model")
    ids = [name for names in collection.image_ids().values() for name in names]
    collection.mask_set("saliency").write_acceptance("default", {"quantile": 0.1}, ids[:1])
    text = lineage.run(lineage.LineageConfig(model=str(model), tracking=tracking)).report
    assert "IT HAS CHANGED SINCE" in next(line for line in text.splitlines() if "acceptance hash" in line)


def test_origins_that_are_gone_are_told_beside_the_rest(
    collection: Collection, tracking: TrackingConfig, tmp_path: Path
) -> None:
    made = Collection.create(str(tmp_path / "made"), name="made", source="a program")
    for part in collection.part_names():
        made.write_part(part, collection.read_part(part))
    relabel = {"method": "relabel", "checkpoint": str(tmp_path / "gone"), "source": "before"}
    for name, provenance in (("saliency", {"method": "test"}), ("round-1", relabel)):
        masks = made.create_mask_set(name, config_hash="c" * 16, provenance=provenance)
        for part in made.part_names():
            masks.write_part(part, collection.mask_set("saliency").read_part(part))
        masks.write_acceptance("default", {"quantile": 0.5}, made.image_ids()["part-00000"])
    first = trained(made, "round-1", tracking, tmp_path / "first")
    result = lineage.run(lineage.LineageConfig(model=str(first), tracking=tracking))
    assert f"model {tmp_path / 'gone'}\n" in result.report
    assert f"cannot be opened: {made.uri} has no mask set 'before'" in result.report
    assert result.report.count("cannot be opened") == 2
    assert "source 1: {" in result.report and "a program" in result.report
    assert result.counts["photographs"] == len(made.image_ids()["part-00000"])
    second = trained(made, "saliency", tracking, tmp_path / "second")
    Path(made.mask_set("saliency").acceptance_uri("default")).unlink()
    result = lineage.run(lineage.LineageConfig(model=str(second), tracking=tracking))
    assert "no acceptance 'default'" in result.report and f"fingerprint: {made.fingerprint()}" in result.report
    assert result.counts["photographs"] == 0


def test_what_nothing_is_known_of_is_told(tracking: TrackingConfig, tmp_path: Path) -> None:
    network = create_segmenter(backbone="timm:test_resnet.r160_in1k", width=32)
    unknown = str(save_checkpoint(network, tmp_path / "unknown"))
    assert "the checkpoint has no run id" in lineage.run(lineage.LineageConfig(model=unknown, tracking=tracking)).report
    lost = str(save_checkpoint(network, tmp_path / "lost", extra={"training": {"run_id": "f" * 32, "step": 1}}))
    settings = lineage.LineageConfig(model=lost, tracking=tracking, photographs=tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"the photographs of .* cannot be listed"):
        lineage.run(settings)
    with pytest.raises(ValueError, match="--model is required"):
        lineage.run(lineage.LineageConfig(tracking=tracking))
    with pytest.raises(ValueError, match="no checkpoint"):
        lineage.run(lineage.LineageConfig(model=str(tmp_path), tracking=tracking))
