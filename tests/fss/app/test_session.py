"""What a person does on the page of `fss app`, without the page."""

import io
import json
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fss.app.drawing import Mark
from fss.app.export import coco_file, png_archive, write_mask_set
from fss.app.opened_masks import open_masks
from fss.app.panel import summarize
from fss.app.photographs import of_collection, of_folder
from fss.app.session import Answer, Session
from fss.app.workspace import Workspace
from fss.cli import app
from fss.collection import Collection, ImageReader, ingest_local
from fss.collection.config import SourceConfig
from fss.collection.mask_import import import_masks
from fss.collection.schema import mask_table
from fss.images.mask_codec import decode_mask, mask_row
from fss.inference.predictor import Predictor
from fss.inference.request_limits import RequestLimits
from tests.helpers.app_photographs import CENTRES, disc


def box(centre: tuple[int, int]) -> Mark:
    row, column = centre
    return Mark(tool="box", points=[(column + 17, row + 17), (column - 17, row - 17)])


def open_session(folder: str, predictor: Predictor, **limits: int) -> Session:
    photographs = of_folder(folder, max_pixels=10**6, most=100)
    return Session(photographs, predictor, RequestLimits(**limits))


def position(session: Session, name: str) -> int:
    return [photograph.name for photograph in session.photographs].index(name)


@pytest.fixture(scope="module")
def answers(folder: str, predictor: Predictor) -> dict[int, Answer]:
    session = open_session(folder, predictor)
    session.mark(position(session, "a.jpg"), "object", box(CENTRES["a.jpg"]))
    search = session.start_search()
    session.run_search(search)
    assert search.done == search.total == 5
    return session.answers


@pytest.fixture
def searched(folder: str, predictor: Predictor, answers: dict[int, Answer]) -> Session:
    """The object is marked in a.jpg, and searched."""
    session = open_session(folder, predictor)
    session.mark(position(session, "a.jpg"), "object", box(CENTRES["a.jpg"]))
    session.answers |= answers
    return session


def iou(mask: np.ndarray | None, truth: np.ndarray) -> float:
    assert mask is not None
    return float((mask.astype(bool) & truth).sum() / (mask.astype(bool) | truth).sum())


@pytest.mark.parametrize(
    "marks",
    [
        [box(CENTRES["a.jpg"])],
        [Mark(tool="click", points=[(40, 30)])],
        [Mark(tool="stroke", points=[(35, 30), (45, 30)], width=5)],
        [Mark(tool="paint", points=[(40, 30)], width=28)],
        [box(CENTRES["a.jpg"]), Mark(tool="paint", points=[(80, 80), (100, 80)], width=9),
         Mark(tool="erase", points=[(70, 80), (119, 80)], width=20)],
    ],
)  # fmt: skip
def test_every_tool_marks_the_object(marks: list[Mark], folder: str, predictor: Predictor) -> None:
    session = open_session(folder, predictor)
    first = position(session, "a.jpg")
    for mark in marks:
        session.mark(first, "object", mark)
    assert iou(session.mask(first), disc(CENTRES["a.jpg"])) > 0.8
    assert session.state(first) == "example"
    for _ in marks:
        session.undo(first, "object")
    assert session.mask(first) is None and session.state(first) == "open" and not session.examples


def test_a_search_finds_the_object_and_sorts_by_confidence(searched: Session) -> None:
    states = {photograph.name: searched.state(number) for number, photograph in enumerate(searched.photographs)}
    assert states["a.jpg"] == "example" and states["broken.jpg"] == "unusable"
    for name in ("b.jpg", "c.jpg", "folder/d.jpg"):
        assert states[name] == "found"
    order = searched.order()
    assert order[0] == position(searched, "a.jpg") and order[-1] == position(searched, "broken.jpg")
    rates = [searched.answers[each].confidence for each in order if searched.state(each) == "found"]
    assert rates == sorted(rates, reverse=True)
    assert sum(searched.counts().values()) == 6


def test_masks_of_low_confidence_are_doubtful(searched: Session) -> None:
    found = [number for number in searched.order() if searched.state(number) == "found"]
    for number, confidence in zip(found, (0.8, 0.49, 0.1), strict=False):
        searched.answers[number] = replace(searched.answers[number], confidence=confidence)
    assert [searched.doubtful(number) for number in found[:3]] == [False, True, True]
    missing = "" if len(found) == 4 else ", 1 not found"
    assert summarize(searched).startswith(f"{len(found)} found (")
    assert summarize(searched).endswith(f" doubtful: confidence below 50%){missing}, 1 unusable")
    searched.mark(found[1], "object", Mark(tool="paint", points=[(40, 30)], width=3))
    assert not searched.doubtful(found[1]), "a corrected mask is a person's"


def test_a_stopped_search_keeps_its_answers(folder: str, predictor: Predictor) -> None:
    session = open_session(folder, predictor)
    session.mark(position(session, "a.jpg"), "object", box(CENTRES["a.jpg"]))
    search = session.start_search()
    search.stop.set()
    session.run_search(search)
    assert search.done == len(session.answers) == predictor.batch_size == 1


def test_the_end_of_the_page_stops_its_searches(folder: str, predictor: Predictor) -> None:
    session = open_session(folder, predictor)
    session.mark(position(session, "a.jpg"), "object", box(CENTRES["a.jpg"]))
    workspace = Workspace(
        photographs=session.photographs, predictor=predictor, model="", limits=session.limits, collection=None
    )
    search, release = session.start_search(), threading.Event()
    workspace.searches.append(search)
    workspace.worker.submit(release.wait)
    waiting = workspace.worker.submit(session.run_search, search)
    workspace.end()
    release.set()
    assert search.stop.is_set() and waiting.cancelled()


def test_corrections_survive_the_next_search_and_become_examples(searched: Session) -> None:
    second, third = position(searched, "b.jpg"), position(searched, "c.jpg")
    predicted = searched.mask(second)
    searched.mark(second, "object", Mark(tool="paint", points=[(5, 5)], width=6))
    corrected = searched.mask(second)
    assert predicted is not None and corrected is not None and corrected[5, 5] and not predicted[5, 5]
    assert searched.state(second) == "corrected"
    searched.reject(third)
    assert not searched.mask(third).any()  # type: ignore[union-attr]
    searched.add_example(second)
    assert searched.examples == [position(searched, "a.jpg"), second]
    searched.run_search(searched.start_search())
    assert (searched.mask(second) == corrected).all() and searched.state(third) == "corrected"
    searched.remove_example(second)
    assert searched.state(second) == "corrected"
    searched.clear(second, "object")
    assert searched.state(second) == "found" and (searched.mask(second) == predicted).all()


def test_a_click_beside_the_object_takes_what_is_there_from_a_found_mask(searched: Session) -> None:
    second = position(searched, "b.jpg")
    predicted, here = searched.mask(second), disc(CENTRES["b.jpg"]) == 1
    assert predicted is not None and predicted[here].mean() > 0.5
    row, column = CENTRES["b.jpg"]
    searched.mark(second, "object", Mark(tool="beside", points=[(column, row)]))
    corrected = searched.mask(second)
    assert corrected is not None and corrected[here].mean() < 0.1
    assert (corrected <= predicted).all()
    searched.undo(second, "object")
    assert (searched.mask(second) == predicted).all() and searched.state(second) == "found"


def test_what_is_not_meant_is_left_out(searched: Session) -> None:
    second = position(searched, "b.jpg")
    searched.mark(position(searched, "a.jpg"), "other", box(CENTRES["a.jpg"]))  # the same object: nothing is left
    assert searched.others == [position(searched, "a.jpg")]
    searched.run_search(searched.start_search())
    assert searched.mask(second).sum() < 0.5 * disc(CENTRES["b.jpg"]).sum()  # type: ignore[union-attr]


def test_mistakes_are_told_and_leave_nothing_behind(folder: str, predictor: Predictor) -> None:
    session = open_session(folder, predictor, max_supports=1)
    first, second = position(session, "a.jpg"), position(session, "b.jpg")
    with pytest.raises(ValueError, match="mark the object in one photograph first"):
        session.start_search()
    with pytest.raises(ValueError, match="there is no mask yet"):
        coco_file(session, "disc")
    for tool in ("beside", "erase"):
        with pytest.raises(ValueError, match="mark the object first"):
            session.mark(first, "object", Mark(tool=tool, points=[(1, 1)]))
    session.mark(first, "object", box(CENTRES["a.jpg"]))
    with pytest.raises(ValueError, match="there are 1 examples already"):
        session.mark(second, "object", box(CENTRES["b.jpg"]))
    assert session.state(second) == "open"
    with pytest.raises(ValueError, match="ignored pixels"):
        coco_file(session, "ignore")
    session.mark(first, "object", Mark(tool="erase", points=[(0, 40), (119, 40)], width=200))
    with pytest.raises(ValueError, match=r"the example a\.jpg marks nothing"):
        session.run_search(session.start_search())


def test_limits_of_photographs_and_pixels(folder: str, tmp_path: Path) -> None:
    photographs = of_folder(folder, max_pixels=1000, most=2)
    assert len(photographs) == 2 and photographs.total == 6
    with pytest.raises(ValueError, match="more than the 1000"):
        photographs.decode(0)
    with pytest.raises(ValueError, match="there are no photographs in"):
        of_folder(str(tmp_path), max_pixels=1000, most=2)


def test_exports_are_imported_with_equal_pixels(searched: Session, folder: str, tmp_path: Path) -> None:
    searched.reject(position(searched, "c.jpg"))
    collection = ingest_local(SourceConfig(path=folder, masks="none"), str(tmp_path / "collection"))
    (tmp_path / "coco.json").write_bytes(coco_file(searched, "disc"))
    assert json.loads((tmp_path / "coco.json").read_text())["categories"][0]["name"] == "disc"
    with zipfile.ZipFile(io.BytesIO(png_archive(searched, "disc"))) as archive:
        archive.extractall(tmp_path / "png")
    written = write_mask_set(searched, collection.uri, "corrected", "disc")
    empty = sum(not mask.any() for _, mask in searched.masks())
    assert (written.masks, written.empty, written.unmatched) == (5, empty, 0) and 0 < empty < 5
    sets = [import_masks(collection, name, str(tmp_path / source)).mask_set
            for name, source in (("coco", "coco.json"), ("png", "png"))]  # fmt: skip
    for mask_set in [*sets, Collection.open(collection.uri).mask_set("corrected")]:
        check_equal(searched, ImageReader(mask_set.collection, mask_set))
    assert list(Collection.open(collection.uri).classes.values()) == ["disc"]
    with pytest.raises(ValueError, match="has a mask set 'corrected' with other masks"):
        searched.reject(position(searched, "b.jpg"))
        write_mask_set(searched, collection.uri, "corrected", "disc")
    assert write_mask_set(searched, collection.uri, "corrected", "disc", overwrite=True).masks == 5


def check_equal(session: Session, reader: ImageReader) -> None:
    count = 0
    for number, mask in session.masks():
        sample = reader.read(session.photographs.image_id(number))
        assert sample.mask is not None and (sample.mask == mask).all()
        count += 1
    assert count == 5


def test_a_collection_is_made_from_the_folder_and_opened_without_it(searched: Session, tmp_path: Path) -> None:
    written = write_mask_set(searched, str(tmp_path / "new"), "first", "disc")
    assert written.masks == 5
    photographs = of_collection(Collection.open(str(tmp_path / "new")), max_pixels=10**6, most=100)
    assert [item.name for item in photographs] == ["a.jpg", "b.jpg", "c.jpg", "folder/d.jpg", "none.jpg"]
    assert photographs.image_id(3) == searched.photographs.image_id(position(searched, "folder/d.jpg"))


def test_the_masks_of_a_set_are_opened_corrected_and_written(
    searched: Session, predictor: Predictor, tmp_path: Path
) -> None:
    write_mask_set(searched, str(tmp_path / "c"), "first", "disc")
    collection = Collection.open(str(tmp_path / "c"))
    photographs = of_collection(collection, max_pixels=10**6, most=100)
    opened, label = open_masks(collection.mask_set("first"), photographs)
    assert label == "disc"
    session = Session(photographs, predictor, opened=opened)
    check_equal(session, ImageReader(collection, collection.mask_set("first")))
    assert session.order() == list(range(len(photographs))), "by name, since opened masks have no confidence"
    changed = next(number for number in session.order() if session.state(number) == "opened")
    before = session.mask(changed)
    session.mark(changed, "object", Mark(tool="paint", points=[(100, 80)], width=12))
    assert session.state(changed) == "corrected" and not session.examples
    write_mask_set(session, collection.uri, "second", label)
    first, second = (ImageReader(collection, collection.mask_set(name)) for name in ("first", "second"))
    for number in range(len(photographs)):
        masks = [reader.read(photographs.image_id(number)).mask for reader in (first, second)]
        assert all(mask is not None for mask in masks)
        assert np.array_equal(masks[0], masks[1]) == (number != changed)
    assert before is not None and before[80, 100] == 0


def test_what_an_opened_set_ignores_stays_ignored(
    searched: Session, folder: str, predictor: Predictor, tmp_path: Path
) -> None:
    collection = ingest_local(SourceConfig(path=folder), str(tmp_path / "c"))
    collection.add_classes({5: "disc"})
    mask_set = collection.create_mask_set("edges", config_hash="1", provenance={})
    photographs = of_collection(collection, max_pixels=10**6, most=3)
    masks = {photographs.image_id(number): np.zeros((96, 120), np.uint8) for number in range(3)}
    for number, mask in enumerate(masks.values()):
        mask[:20] = 255
        mask[40:60, 40:60] = number < 2  # the last one has nothing but ignored pixels
    for part in collection.part_names():
        ids = collection.read_part(part, ["image_id"])["image_id"].to_pylist()
        rows = [mask_row(i, masks[i], [5] * bool((masks[i] == 1).any())) if i in masks else gone(i) for i in ids]
        mask_set.write_part(part, mask_table(rows))
    opened, label = open_masks(mask_set, photographs)
    session = Session(photographs, predictor, opened=opened)
    assert [session.state(number) for number in range(3)] == ["opened", "opened", "empty"]
    session.mark(0, "object", Mark(tool="paint", points=[(60, 10)], width=10))
    expected = {number: mask.copy() for number, mask in enumerate(masks.values())}
    expected[0][session.mask(0) == 1] = 1
    assert (expected[0][:20] == 1).any() and (expected[0][:20] == 255).any()
    assert all(np.array_equal(mask, expected[number]) for number, mask in session.masks())

    written = write_mask_set(session, collection.uri, "corrected", label)
    assert (written.masks, written.without) == (3, 2), "two photographs of five are not on the page"
    assert written.words() == (
        "The mask set corrected is written. Photographs: 2 with the object, 1 without it (empty masks), 2 that no mask "
        "was made for."
    )
    (tmp_path / "coco.json").write_bytes(coco_file(session, label, collection.classes))
    imported = import_masks(collection, "imported", str(tmp_path / "coco.json")).mask_set
    for result in (written.mask_set, imported):
        reader = ImageReader(collection, result)
        for number, mask in expected.items():
            sample = reader.read(photographs.image_id(number))
            assert np.array_equal(sample.mask, mask) and list(sample.classes) == [5] * (number < 2)


def gone(image_id: str) -> dict[str, object]:
    return mask_row(image_id, None, error="gone: not made")


def test_one_class_of_a_set_is_opened(tmp_path: Path) -> None:
    collection = ingest_local(SourceConfig(kind="sample", sample="labelled", count=3), str(tmp_path / "c"))
    truth, photographs = collection.mask_set("truth"), of_collection(collection, max_pixels=10**6, most=100)
    with pytest.raises(
        ValueError, match=r"--object-class is not given, but .*'truth' has the classes .*, .*; name one"
    ):
        open_masks(truth, photographs)
    with pytest.raises(ValueError, match="--object-class is unicorn, but"):
        open_masks(truth, photographs, "unicorn")
    reader = ImageReader(collection, truth)
    shown = next(class_id for number in range(3) for class_id in reader.read(photographs.image_id(number)).classes)
    answers, label = open_masks(truth, photographs, collection.classes[shown])
    assert label == collection.classes[shown] and len(answers) == 3
    for number, answer in answers.items():
        _, truth_mask = reader.read_binary(photographs.image_id(number), shown)
        assert np.array_equal(decode_mask(answer.mask), truth_mask == 1)
        assert answer.found == (truth_mask == 1).any()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"collection": "c", "object_class": "cup"}, "give --mask-set NAME"),
        ({"collection": "c", "photographs": "p", "mask_set": "m"}, "give --collection alone"),
        ({"photographs": "p", "mask_set": "m"}, "give --collection alone"),
    ],
)
def test_flags_of_opened_masks_that_do_not_fit(flags: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        app.run(app.Config(**flags))
