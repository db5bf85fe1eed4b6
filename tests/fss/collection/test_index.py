import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fss.collection import ClassIndex, Collection, ImageReader, part_io
from fss.collection.schema import image_table, make_image_id, mask_table
from fss.images.mask_codec import mask_row
from tests.helpers.bad_files.formats import encoded, picture
from tests.helpers.discs import fill


def test_index_by_class(collection: Collection) -> None:
    index = ClassIndex.build(collection.mask_set("truth"))
    assert list(index) == [7, 300]
    assert [(entry.part, entry.row, entry.pixels) for entry in index[300]][:4] == [
        ("part-00000", 0, 240),
        ("part-00000", 1, 240),
        ("part-00000", 2, 240),
        ("part-00001", 0, 240),
    ]
    assert list(ClassIndex.build(collection.mask_set("truth"), min_pixels=241)) == [7]
    one = index[7][4].image_id
    assert [entry.image_id for entry in ClassIndex.build(collection.mask_set("truth"), accepted={one})[7]] == [one]


def test_index_skips_errors_and_classes_without_pixels(collection: Collection) -> None:
    table = collection.read_part("part-00000", ["image_id"])
    ids = table.column("image_id").to_pylist()
    rows = [mask_row(i, None, error="missing-mask: none") for i in ids[:2]]
    rows.append(mask_row(ids[2], np.ones((40, 48), np.uint8), [5, 6]))
    masks = collection.create_mask_set("other", config_hash="1", provenance={})
    masks.write_part("part-00000", mask_table(rows))
    assert {key: len(value) for key, value in ClassIndex.build(masks).items()} == {5: 1}


def test_reader_gives_picture_and_mask(collection: Collection) -> None:
    reader = ImageReader(collection, collection.mask_set("truth"), cached_groups=1)
    ids = [i for part in collection.image_ids().values() for i in part]
    for one in [*ids, *ids[::-1]]:
        rgb, mask = reader.read_binary(one, 300)
        np.testing.assert_array_equal(rgb, np.asarray(picture()))
        assert np.unique(mask).tolist() == [0, 1, 255]
        assert (mask == 1).sum() == 240
    assert reader.read(ids[0]).classes == (7, 300)
    assert ids[0] in reader
    assert "x" not in reader


def test_readers_read_only_the_row_groups_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_io, "ROW_GROUP", 2)
    collection = fill(Collection.create(str(tmp_path), name="c", source="test"), parts=1, rows=5)
    truth, (ids,) = collection.mask_set("truth"), collection.image_ids().values()
    assert pq.ParquetFile(tmp_path / "images/part-00000.parquet").num_row_groups == 3
    groups: list[list[int]] = []
    read = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", lambda *a, **k: groups.append(a[1]) or read(*a, **k))
    for rows, expected in (([4, 0, 4], [0, 2]), ([3, 2], [1]), (slice(9), [0, 1, 2]), ([], [])):
        table = collection.read_part("part-00000", ["image_id"], rows=rows)
        numbers = range(5)[rows] if isinstance(rows, slice) else rows
        assert table["image_id"].to_pylist() == [ids[row] for row in numbers]
        assert truth.read_part("part-00000", ["classes"], rows=rows).num_rows == len(numbers)
        assert groups == [expected] * 2
        groups.clear()
    with pytest.raises(IndexError, match="the part has 5 rows"):
        truth.read_part("part-00000", rows=[5])


def test_reader_says_what_is_missing(collection: Collection) -> None:
    collection.write_part("part-00002", image_table([{"image_id": "bad", "uri": "b.jpg", "error": "empty: no bytes"}]))
    reader = ImageReader(collection)
    with pytest.raises(ValueError, match="no image nowhere"):
        reader.read("nowhere")
    with pytest.raises(ValueError, match="unusable: empty"):
        reader.read("bad")
    with pytest.raises(ValueError, match="has no mask"):
        reader.read_binary(collection.image_ids()["part-00000"][0], 7)


def test_reader_follows_references(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    photo.write_bytes(encoded("PNG"))
    collection = Collection.create(str(tmp_path / "c"), name="c", source="test")
    identity = make_image_id(photo.read_bytes(), "a.png")
    collection.write_part("part-00000", image_table([{"image_id": identity, "uri": str(photo)}]))
    np.testing.assert_array_equal(ImageReader(collection).read(identity).rgb, np.asarray(picture()))


def test_threads_may_share_a_reader(collection: Collection) -> None:
    reader = ImageReader(collection, collection.mask_set("truth"), cached_groups=1)
    ids = [i for part in collection.image_ids().values() for i in part]
    failures: list[Exception] = []

    def work(order: list[str]) -> None:
        try:
            for one in order * 3:
                assert reader.read(one).image_id == one
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(ids[shift:] + ids[:shift],)) for shift in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
