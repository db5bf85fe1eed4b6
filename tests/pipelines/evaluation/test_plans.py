"""Episode plans of an evaluation, and the classes that have too few pictures for them."""

from dataclasses import replace

import pytest

from fss.collection import TRUTH, MaskSet, ingest_local
from fss.collection.sources import SourceConfig
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.evaluation.plans import make_plans
from pipelines.training.config import TrainJobConfig, work_hash
from pipelines.training.data import TrainingData
from tests.helpers.dataset_layouts import write_fss1000


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> MaskSet:
    """Return masks of four classes with 6 pictures, and two with 5."""
    root = tmp_path_factory.mktemp("plans")
    write_fss1000(root / "data", ["apple", "bee", "cup", "dog", "egg", "fig"], images=6)
    for name in ("bee", "dog"):
        for suffix in ("jpg", "png"):
            (root / "data" / name / f"6.{suffix}").unlink()
    splits = '{"train": ["apple", "bee", "cup"], "val": ["dog", "egg"], "test": ["fig"]}'
    (root / "data" / "splits.json").write_text(splits)
    source = SourceConfig(kind="fss1000", path=str(root / "data"))
    return ingest_local(source, str(root / "collection")).mask_set(TRUTH)


def config(truth: MaskSet) -> EvaluateJobConfig:
    return EvaluateJobConfig(model="m", collection=truth.collection.uri, output="o", episodes=20, shots=(1, 5))


def test_small_classes_are_refused_or_left_out_of_all_plans(truth: MaskSet) -> None:
    with pytest.raises(ValueError, match=r"5 shots need 6 images .*class \d has 5, class \d has 5; .*--skip-small-cl"):
        make_plans(config(truth), truth)
    drawn = make_plans(replace(config(truth), skip_small_classes=True), truth)
    assert drawn.left_out == {"bee": 5, "dog": 5}
    names = truth.collection.classes
    one, five = drawn.plans
    assert [names[c] for c in one.classes] == [names[c] for c in five.classes] == ["apple", "cup", "egg", "fig"]
    assert [episode.query_id for episode in one] == [episode.query_id for episode in five]
    split = make_plans(replace(config(truth), skip_small_classes=True, classes="val"), truth)
    assert (split.left_out, [names[c] for c in split.plans[0].classes]) == ({"dog": 5}, ["egg"])


def test_the_setting_changes_nothing_where_all_classes_are_large_enough(truth: MaskSet) -> None:
    few = replace(config(truth), shots=(1, 2))
    assert make_plans(few, truth) == make_plans(replace(few, skip_small_classes=True), truth)


def test_published_episodes_have_all_classes(truth: MaskSet) -> None:
    with pytest.raises(ValueError, match="published episodes of hsnet have all classes"):
        replace(config(truth), benchmark="pascal", fold=0, protocol="hsnet", skip_small_classes=True)
    with pytest.raises(ValueError, match="none has more than 6"):
        make_plans(replace(config(truth), shots=(9,), skip_small_classes=True), truth)


def test_a_training_leaves_small_classes_out(truth: MaskSet) -> None:
    job = TrainJobConfig(
        collection=truth.collection.uri, output="o", mask_set="truth", acceptance=None, episodes="classes"
    )
    five = replace(job, classes=replace(job.classes, shots=5))
    with pytest.raises(ValueError, match=r"class \d has 5; .*--classes.skip-small-classes"):
        TrainingData.open(five)
    data = TrainingData.open(replace(five, classes=replace(five.classes, skip_small_classes=True)))
    assert data.left_out() == {"bee": 5, "dog": 5}
    selection = data.sources[0].selection
    assert selection is not None
    assert [truth.collection.classes[c] for c in selection.train] == ["apple", "cup"]
    data = TrainingData.open(job)
    same = TrainingData.open(replace(job, classes=replace(job.classes, skip_small_classes=True)))
    assert work_hash(data.config, data.hashes()) == work_hash(same.config, same.hashes())
