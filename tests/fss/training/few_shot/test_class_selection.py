"""Classes for training and validation, selected by split, name, benchmark or published list, or held out."""

import pickle
from pathlib import Path

import pytest

from fss.collection import TRUTH, MaskSet, ingest_local
from fss.collection.sources import SourceConfig
from fss.episodes.benchmarks import ids_by_name
from fss.episodes.published_lists import read_training_entries
from fss.training.few_shot.class_selection import select_classes, validation_plan
from fss.training.few_shot.config import ClassesConfig
from tests.helpers.dataset_layouts import write_bytes, write_fss1000, write_voc

THINGS = [f"thing{number}" for number in range(6)]
SPLITS = b'{"train": ["thing0", "thing1", "thing2"], "val": ["thing3"], "test": ["thing4", "thing5"]}'


def ingested(root: Path, kind: str, **settings: str) -> MaskSet:
    source = SourceConfig(kind=kind, path=str(root / "data"), **settings)  # type: ignore[arg-type]
    return ingest_local(source, str(root / f"collection{settings.get('subset', '')}"), part_size=16).mask_set(TRUTH)


@pytest.fixture(scope="module")
def fss(tmp_path_factory: pytest.TempPathFactory) -> MaskSet:
    root = tmp_path_factory.mktemp("fss")
    write_fss1000(root / "data", THINGS, images=4)
    (root / "data" / "splits.json").write_bytes(SPLITS)
    return ingested(root, "fss1000")


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> tuple[MaskSet, MaskSet]:
    """VOC's training and its validation images."""
    root = tmp_path_factory.mktemp("voc")
    write_voc(root / "data", count=100, val=range(70))
    return ingested(root, "voc", subset="trainaug"), ingested(root, "voc", subset="val")


def names(masks: MaskSet, ids: tuple[int, ...]) -> list[str]:
    return [masks.collection.classes[c] for c in ids]


def test_the_collections_splits_are_the_default(fss: MaskSet) -> None:
    choice = select_classes(ClassesConfig(), fss)
    assert (names(fss, choice.train), names(fss, choice.val)) == (THINGS[:3], ["thing3"])
    assert set(choice.index) == set(choice.train)
    assert choice.pairs == 12


def test_classes_by_name_and_split_together(fss: MaskSet) -> None:
    choice = select_classes(ClassesConfig(train=("test", "thing1"), val=("thing0",)), fss)
    assert (names(fss, choice.train), names(fss, choice.val)) == (["thing1", "thing4", "thing5"], ["thing0"])
    with pytest.raises(ValueError, match=r"thing9: no class split or class of .*splits are train, val, test"):
        select_classes(ClassesConfig(train=("thing9",)), fss)
    with pytest.raises(ValueError, match=r"2 classes are both training and validation classes \(thing4, thing5\)"):
        select_classes(ClassesConfig(train=("test",), val=("test",)), fss)
    with pytest.raises(ValueError, match="no class to train on"):
        select_classes(ClassesConfig(train=()), fss)


def test_without_validation_classes_some_are_held_out(fss: MaskSet) -> None:
    config = ClassesConfig(train=("train", "test"), val=())
    choice = select_classes(config, fss, held_out=0.4)
    assert (len(choice.train), len(choice.val)) == (3, 2)
    assert not set(choice.train) & set(choice.val)
    fewer = select_classes(config, fss, held_out=0.01)
    assert len(fewer.val) == 1 and set(fewer.val) <= set(choice.val), "the same classes come first"
    with pytest.raises(ValueError, match="no class can be held out of 1"):
        select_classes(ClassesConfig(train=("thing0",), val=()), fss, held_out=0.05)
    with pytest.raises(ValueError, match="no class can be held out of 5"):
        select_classes(config, fss, held_out=0.0)


def test_accepted_pictures_alone_are_trained_on(fss: MaskSet) -> None:
    whole = select_classes(ClassesConfig(), fss)
    accepted = {whole.index[c][0].image_id for c in whole.train}
    choice = select_classes(ClassesConfig(), fss, accepted=accepted)
    assert {entry.image_id for c in choice.index for entry in choice.index[c]} == accepted
    assert choice.hash != whole.hash


def test_the_validation_plan_is_fixed(fss: MaskSet) -> None:
    config = ClassesConfig(val_episodes=9, shots=2)
    plan, left_out = validation_plan(config, fss, select_classes(config, fss).val)
    assert not left_out
    assert (len(plan), plan.shots, names(fss, tuple(plan.classes))) == (9, 2, ["thing3"])
    assert plan.fingerprint == fss.collection.fingerprint()
    assert validation_plan(config, fss, plan.classes)[0].hash == plan.hash


def test_a_fold_of_pascal_validates_on_its_own_images(voc: tuple[MaskSet, MaskSet]) -> None:
    train, val = voc
    config = ClassesConfig(benchmark="pascal", fold=1, val=("test",), val_collection=val.collection.uri, val_episodes=5)
    choice = select_classes(config, train)
    assert choice.val == (6, 7, 8, 9, 10)
    assert set(choice.train) == set(range(1, 21)) - set(choice.val)
    plan, _ = validation_plan(config, val, choice.val)
    assert plan.classes == list(choice.val)
    assert plan.fingerprint == val.collection.fingerprint() != train.collection.fingerprint()
    with pytest.raises(ValueError, match=r"val: no class split or class of .* its splits are train, test"):
        select_classes(ClassesConfig(benchmark="pascal", fold=1), train)


def test_a_class_that_is_called_like_a_split_is_not_taken_for_it(voc: tuple[MaskSet, MaskSet]) -> None:
    with pytest.raises(ValueError, match=r"has a class 'train' but no class split of that name; give --classes\.bench"):
        select_classes(ClassesConfig(val=("car",)), voc[0])
    choice = select_classes(ClassesConfig(train=("train", "bus"), val=("car",)), voc[0])
    assert names(voc[0], choice.train) == ["bus", "train"]


def test_folds_belong_to_a_benchmark(fss: MaskSet) -> None:
    with pytest.raises(ValueError, match=r"give --classes\.benchmark"):
        select_classes(ClassesConfig(fold=0), fss)


def test_published_lists_of_pascal_restrict_the_images(voc: tuple[MaskSet, MaskSet], tmp_path: Path) -> None:
    train, _ = voc
    unrestricted = select_classes(ClassesConfig(benchmark="pascal", fold=0, val=("test",)), train).index
    by_id = {image: name for name, image in ids_by_name(train.collection, "pascal").items()}
    listed_names = {c: by_id[unrestricted[c][-1].image_id] for c in unrestricted if unrestricted[c]}
    for number in range(1, 4):
        lines = [f"{name}__{c:02d}\n" for c, name in listed_names.items() if (c - 1) // 5 == number]
        write_bytes(tmp_path / "pascal" / "trn" / f"fold{number}.txt", "".join(lines).encode())
    config = ClassesConfig(benchmark="pascal", fold=0, val=("test",), split_folder=str(tmp_path))
    restricted = select_classes(config, train).index
    assert {c: [by_id[entry.image_id] for entry in restricted[c]] for c in restricted if restricted[c]} == {
        c: [name] for c, name in listed_names.items()
    }
    write_bytes(tmp_path / "pascal" / "trn" / "fold2.txt", b"2011_000001__12\n")
    with pytest.raises(ValueError, match=r"1 images that .* lacks, such as 2011_000001"):
        select_classes(config, train)
    with pytest.raises(ValueError, match=r"no split file .*fold0\.txt"):
        read_training_entries(str(tmp_path), "pascal", 3)


def test_published_lists_of_coco_are_those_of_the_fold(tmp_path: Path) -> None:
    content = {c: [f"train2014/COCO_train2014_{c:012d}.jpg"] if c % 4 != 2 else [] for c in range(80)}
    write_bytes(tmp_path / "coco" / "trn" / "fold2.pkl", pickle.dumps(content))
    entries = read_training_entries(str(tmp_path), "coco", 2)
    assert len(entries) == 60
    assert entries[0] == ("COCO_train2014_000000000000", 1)
