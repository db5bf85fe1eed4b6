"""From a download's layout to the plan of a benchmark, with published lists and without."""

import pickle
from functools import cache

import pytest

from fss.collection import TRUTH, ingest_local
from fss.collection.sources import SourceConfig
from fss.episodes.benchmarks import benchmark_plan, choose_fold
from fss.episodes.episode_plan import EpisodePlan
from fss.episodes.folds import Fold, coco_fold, pascal_fold
from fss.episodes.published_lists import image_name
from fss.synthetic.picture import SAMPLE_CLASSES, render_sample_image
from tests.helpers.dataset_layouts import ringed, write_bytes, write_coco, write_fss1000, write_voc

COUNT = 40


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc")
    write_voc(root / "data", count=COUNT)
    return _ingested(root, "voc")


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    write_coco(root / "data", "val2014", count=COUNT, rendered=False)
    return _ingested(root, "coco", subset="val2014")


@pytest.fixture(scope="module")
def fss(tmp_path_factory):
    root = tmp_path_factory.mktemp("fss")
    write_fss1000(root / "data", [f"thing{number}" for number in range(6)])
    return _ingested(root, "fss1000")


def _ingested(root, kind, **settings):
    source = SourceConfig(kind=kind, path=str(root / "data"), **settings)
    collection = ingest_local(source, str(root / "collection"), part_size=16)
    truth = collection.mask_set(TRUTH)
    assert not any(row["error"] for part in collection.part_names() for row in truth.read_part(part).to_pylist())
    return collection


def _names(collection, benchmark):
    names = {}
    for part in collection.part_names():
        for row in collection.read_part(part, ["image_id", "uri"]).to_pylist():
            names[row["image_id"]] = image_name(row["uri"], benchmark)
    return names


@cache
def _picture(number):
    return render_sample_image(number, 0, "labelled")


def _showing(class_id):
    return [number for number in range(COUNT) if class_id in _picture(number).classes]


@pytest.mark.parametrize("protocol", ["ours", "hsnet", "ifsl"])
def test_every_episode_of_voc_shows_its_class(voc, protocol):
    fold = choose_fold(voc, "pascal", 0)
    plan = benchmark_plan(voc, voc.mask_set(TRUTH), fold, protocol=protocol, shots=2, episodes=30)
    names = _names(voc, "pascal")
    assert len(plan) == 30 and set(plan.classes) <= set(fold.test)
    assert plan.protocol == {"ours": "ours", "hsnet": "hsnet-derived", "ifsl": "ifsl-derived"}[protocol]
    assert plan.fingerprint == voc.fingerprint()
    for episode in plan:
        numbers = [int(names[image].rsplit("_", 1)[1]) for image in (episode.query_id, *episode.support_ids)]
        assert all(number in _showing(episode.class_id) for number in numbers)
        assert episode.query_id not in episode.support_ids


def test_derived_lists_are_sorted_by_name_then_class(voc):
    plan = benchmark_plan(voc, voc.mask_set(TRUTH), pascal_fold(0), protocol="hsnet", shots=1, episodes=50)
    expected = [(number, c) for number in range(COUNT) for c in _picture(number).classes if c in range(1, 6)]
    names = _names(voc, "pascal")
    drawn = [(int(names[episode.query_id].rsplit("_", 1)[1]), episode.class_id) for episode in plan]
    assert drawn == (expected * 5)[:50]


def test_published_lists_of_pascal_are_followed(voc, tmp_path):
    numbers = _showing(2)[:4][::-1]
    lines = "".join(f"2007_{number:06d}__02\n" for number in numbers)
    write_bytes(tmp_path / "pascal" / "val" / "fold0.txt", lines.encode())
    plan = benchmark_plan(
        voc, voc.mask_set(TRUTH), pascal_fold(0), protocol="hsnet", shots=1, episodes=4, split_folder=str(tmp_path)
    )
    names = _names(voc, "pascal")
    assert [names[episode.query_id] for episode in plan] == [f"2007_{number:06d}" for number in numbers]
    assert plan.protocol == "hsnet-given"  # not the 346 entries of the published list


def test_lists_that_name_absent_images_or_other_classes_are_refused(voc, tmp_path):
    truth = voc.mask_set(TRUTH)

    def plan(text):
        write_bytes(tmp_path / "pascal" / "val" / "fold0.txt", text)
        benchmark_plan(voc, truth, pascal_fold(0), protocol="hsnet", shots=1, split_folder=str(tmp_path))

    with pytest.raises(ValueError, match="1 images that the collection lacks, such as 2011_000001"):
        plan(b"2011_000001__02\n2007_000000__02\n")
    with pytest.raises(ValueError, match=r"classes \[7\], which fold 0 does not test"):
        plan(b"2007_000000__07\n")
    with pytest.raises(ValueError, match="a line must be <image>__<class 1 to 20>"):
        plan(b"2007_000000__21\n")
    with pytest.raises(ValueError, match="no split file"):
        benchmark_plan(voc, truth, pascal_fold(1), protocol="ifsl", shots=1, split_folder=str(tmp_path))


def test_published_lists_of_coco_are_plain_pickles(coco, tmp_path):
    fold = choose_fold(coco, "coco", 0)
    shown = {c: _showing(c) for c in SAMPLE_CLASSES if c in fold.test}
    content = {
        c - 1: [f"val2014/COCO_val2014_{number + 1:012d}.jpg" for number in shown.get(c, [0, 1])]
        if c in fold.test
        else []
        for c in range(1, 81)
    }
    place = tmp_path / "coco" / "val" / "fold0.pkl"
    write_bytes(place, pickle.dumps(content))
    truth = coco.mask_set(TRUTH)
    plan = benchmark_plan(coco, truth, fold, protocol="ifsl", shots=1, episodes=25, split_folder=str(tmp_path))
    names = _names(coco, "coco")
    for episode in plan:
        assert f"val2014/{names[episode.query_id]}.jpg" in content[episode.class_id - 1]
    write_bytes(place, b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match="plain dictionaries"):
        benchmark_plan(coco, truth, fold, protocol="hsnet", shots=1, split_folder=str(tmp_path))


def _large_fold():
    """Return a fold of the classes that cover 2,048 pixels in two pictures at least."""
    large = {
        c: sum((ringed(_picture(number).mask) == c).sum() >= 2048 for number in _showing(c)) for c in SAMPLE_CLASSES
    }
    return Fold(benchmark="pascal", number=0, train=(), test=tuple(c for c, often in large.items() if often >= 2))


def test_masksplit_leaves_small_objects_out(voc):
    truth, fold = voc.mask_set(TRUTH), _large_fold()
    assert len(fold.test) >= 3
    plan = benchmark_plan(voc, truth, fold, protocol="masksplit", shots=1, episodes=40)
    names = _names(voc, "pascal")
    assert plan.protocol == "masksplit"
    for episode in plan:
        for image in (episode.query_id, *episode.support_ids):
            number = int(names[image].rsplit("_", 1)[1])
            assert (ringed(_picture(number).mask) == episode.class_id).sum() >= 2048
    small = [c for c in SAMPLE_CLASSES if c not in fold.test]
    with pytest.raises(ValueError, match=f"2048 pixels of every class, but class {small[0]} has"):
        benchmark_plan(
            voc, truth, Fold(benchmark="pascal", number=0, train=(), test=(small[0],)), protocol="masksplit", shots=1
        )


def test_fss_takes_every_image_once_as_query(fss, tmp_path):
    fold = choose_fold(fss, "fss")
    plan = benchmark_plan(fss, fss.mask_set(TRUTH), fold, protocol="hsnet", shots=5)
    assert len(plan) == 10 * len(fold.test) == len({episode.query_id for episode in plan})
    names = _names(fss, "fss")
    assert all(names[s].split("/")[0] == names[e.query_id].split("/")[0] for e in plan for s in e.support_ids)
    for split, members in {"trn": [0, 1], "val": [2], "test": [5, 3]}.items():
        write_bytes(tmp_path / "fss" / f"{split}.txt", "".join(f"thing{m}\n" for m in members).encode())
    given = choose_fold(fss, "fss", split_folder=str(tmp_path))
    assert [fss.classes[c] for c in given.test] == ["thing5", "thing3"]
    listed = benchmark_plan(fss, fss.mask_set(TRUTH), given, protocol="hsnet", shots=1, split_folder=str(tmp_path))
    assert [names[e.query_id] for e in listed][:3] == ["thing5/1", "thing5/10", "thing5/2"]
    assert names[listed.episodes[-1].query_id] == "thing3/9"


def test_plans_are_saved_and_named_by_their_contents(voc, tmp_path):
    truth = voc.mask_set(TRUTH)
    plans = [
        benchmark_plan(voc, truth, _large_fold(), protocol=protocol, shots=1, episodes=20, seed=seed)
        for protocol in ("ours", "hsnet", "ifsl", "masksplit")
        for seed in (0, 1)
    ]
    assert len({plan.hash for plan in plans}) == 8
    plans[2].save(str(tmp_path / "plan.parquet"))
    loaded = EpisodePlan.load(str(tmp_path / "plan.parquet"))
    assert loaded == plans[2] and loaded.hash == plans[2].hash


def test_wrong_requests_say_what_is_allowed(voc, fss):
    truth = voc.mask_set(TRUTH)
    with pytest.raises(ValueError, match="unknown protocol 'pfenet'; choose from ours, hsnet, ifsl, masksplit"):
        benchmark_plan(voc, truth, pascal_fold(0), protocol="pfenet", shots=1)
    with pytest.raises(ValueError, match="at least 1 episode and 1 shot"):
        benchmark_plan(voc, truth, pascal_fold(0), protocol="ours", shots=0)
    with pytest.raises(ValueError, match="needs a fold; choose 0 to 3"):
        choose_fold(voc, "pascal")
    with pytest.raises(ValueError, match="tests on COCO, but class 1"):
        choose_fold(voc, "coco", 0)
    with pytest.raises(ValueError, match="unknown benchmark 'lvis'; choose from pascal, coco, coco-to-pascal, fss"):
        choose_fold(fss, "lvis", 0)
    with pytest.raises(ValueError, match="every class needs at least 2 images"):
        benchmark_plan(voc, truth, coco_fold(0), protocol="hsnet", shots=1)
