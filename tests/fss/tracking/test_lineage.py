"""Datasets of a run, written and read again."""

from pathlib import Path

import pytest

from fss.collection import Collection, ingest_local
from fss.collection.sources import SourceConfig
from fss.tracking.lineage import log_dataset, logged_datasets
from fss.tracking.run import Run, tracking_client
from tests.helpers.stores import fresh_store


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    source = SourceConfig(kind="sample", sample="labelled", count=4)
    return ingest_local(source, str(tmp_path_factory.mktemp("data") / "aunt"), part_size=4)


def test_what_a_run_reads_is_a_dataset_with_its_hash(collection: Collection, tmp_path: Path) -> None:
    run = Run.start("train", uri=fresh_store(tmp_path))
    truth = collection.mask_set("truth")
    log_dataset(run, truth, context="training", details={"acceptance": "default"})
    log_dataset(run, collection, context="pseudo-masks", fingerprint="f" * 16)
    by_context = {use.context: use for use in logged_datasets(run.uri, run.run_id)}
    used = by_context["training"]
    assert (used.name, used.uri) == (f"{collection.name}/truth", collection.uri)
    assert used.digest == f"{collection.fingerprint()}-{truth.config_hash}"
    assert used.profile == {
        "collection": collection.fingerprint(),
        "acceptance": "default",
        "mask_set": "truth",
        "mask_set_hash": truth.config_hash,
    }
    assert by_context["pseudo-masks"].digest == "f" * 16
    (first, *_) = tracking_client(run.uri).get_run(run.run_id).inputs.dataset_inputs
    assert first.dataset.source_type == "local"


def test_a_private_run_does_not_say_where_its_data_are(collection: Collection, tmp_path: Path) -> None:
    run = Run.start("train", uri=fresh_store(tmp_path), private=True)
    log_dataset(run, collection, context="training")
    (used,) = logged_datasets(run.uri, run.run_id)
    assert used.digest == collection.fingerprint()
    assert "aunt" not in used.name + used.uri


def test_metrics_of_a_model_are_on_its_page_with_their_dataset(collection: Collection, tmp_path: Path) -> None:
    run = Run.start("evaluate", uri=fresh_store(tmp_path))
    client = tracking_client(run.uri)
    model = client.create_logged_model(run.experiment_id, name="model").model_id
    dataset = log_dataset(run, collection.mask_set("truth"), context="evaluation")
    run.log_model_input(model)
    run.log_metrics({"eval/1-shot/mIoU": 0.5}, model=model, dataset=dataset)
    run.log_metrics({"total/episodes": 3})
    (metric,) = client.get_logged_model(model).metrics
    assert (metric.key, metric.value, metric.run_id) == ("eval/1-shot/mIoU", 0.5, run.run_id)
    assert (metric.dataset_name, metric.dataset_digest) == dataset
    used = client.get_run(run.run_id)
    assert set(used.data.metrics) == {"eval/1-shot/mIoU", "total/episodes"}
    assert [each.model_id for each in used.inputs.model_inputs] == [model]
