import hashlib

import pyarrow as pa
import pytest

from fss.collection.schema import (
    IMAGE_SCHEMA,
    MASK_SCHEMA,
    check_table,
    image_table,
    make_image_id,
    mask_table,
    part_name,
)


def test_image_id_is_of_bytes_and_path() -> None:
    content, path = make_image_id(b"abc", "a/b.jpg").split("-")
    assert content == hashlib.sha256(b"abc").hexdigest()[:16]
    assert path == hashlib.sha256(b"a/b.jpg").hexdigest()[:8]
    assert make_image_id(b"abc", "other.jpg").startswith(content)
    assert make_image_id(None, "x") == make_image_id(b"", "x")


def test_image_id_of_a_name_that_is_no_unicode() -> None:
    assert make_image_id(b"a", b"\xff.jpg".decode(errors="surrogateescape")) != make_image_id(b"a", "\ufffd.jpg")


def test_part_names_sort_by_number() -> None:
    assert part_name(0) == "part-00000"
    assert part_name(123456) == "part-123456"
    with pytest.raises(ValueError, match="at least 0"):
        part_name(-1)


def test_rows_make_tables_of_the_schema() -> None:
    images = image_table([{"image_id": "a", "uri": "u", "error": "empty: no bytes"}])
    assert images.schema.equals(IMAGE_SCHEMA)
    masks = mask_table([{"image_id": "a", "scores": {"area": 0.5, "gate_area": True}}])
    assert masks.schema.equals(MASK_SCHEMA)
    assert masks.column("scores")[0].as_py()["border"] is None
    with pytest.raises(ValueError, match="unknown columns"):
        image_table([{"image_id": "a", "uri": "u", "colour": 1}])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (image_table([]).drop_columns(["error"]), "has the columns"),
        (image_table([]).set_column(3, "height", pa.array([], pa.int64())), "height has the type int64"),
        (image_table([{"image_id": None, "uri": "u"}]), "image_id has null values"),
    ],
)
def test_other_schemas_are_refused(table: pa.Table, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_table(table, IMAGE_SCHEMA, "part-00000")
