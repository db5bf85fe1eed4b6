"""Mask sets side by side."""

import numpy as np
import pytest

from fss.app.comparison import Comparison
from fss.collection import Collection, ingest_local
from fss.collection.config import SourceConfig
from fss.collection.schema import mask_table
from fss.images.mask_codec import decode_mask, mask_row
from fss.visualize import FOREGROUND, IGNORED


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Six labelled photographs, the same masks again with growing gaps, and objects without classes."""
    source = SourceConfig(kind="sample", sample="labelled", count=6)
    made = ingest_local(source, str(tmp_path_factory.mktemp("c") / "collection"), part_size=4)
    gaps, objects = (made.create_mask_set(name, config_hash="1", provenance={}) for name in ("gaps", "objects"))
    number = 0
    for part in made.part_names():
        rows = {"gaps": [], "objects": []}
        for row in made.mask_set("truth").read_part(part).to_pylist():
            mask, ids = decode_mask(row["mask"]), [entry["id"] for entry in row["classes"]]
            kept = mask.copy()
            kept[:, : 15 * number] = 0
            rows["gaps"].append(
                mask_row(row["image_id"], kept, ids) if number < 5 else mask_row(row["image_id"], None, error="gone: x")
            )
            rows["objects"].append(mask_row(row["image_id"], np.minimum(mask, 1).astype(np.uint8), [1]))
            number += 1
        gaps.write_part(part, mask_table(rows["gaps"]))
        objects.write_part(part, mask_table(rows["objects"]))
    return made


def test_differences_are_sorted_and_told(collection: Collection) -> None:
    comparison = Comparison(collection, ["truth", "gaps"], most=100)
    rows = comparison.rows(0, 100)
    assert len(rows) == len(comparison) == 6 and [row.name for row in rows] == sorted(row.name for row in rows)
    comparison.sort_by_difference()
    rows = comparison.rows(0, 100)
    rates = [row.agreement for row in rows]
    assert rates[-1] is None and rows[-1].cells[1].entries == [(None, "no mask")]
    told = [rate for rate in rates if rate is not None]
    assert told == sorted(told) and told[0] < 0.9 and told[-1] == 1.0
    assert "%" in rows[0].cells[0].entries[0][1] and rows[0].cells[0].jpeg[:2] == b"\xff\xd8"
    comparison.sort_by_name()
    assert [row.name for row in comparison.rows(2, 1)] == [sorted(row.name for row in rows)[2]]


def test_ignored_pixels_have_a_colour_or_are_hatched(collection: Collection) -> None:
    for name, top in (("objects", 1), ("truth", 3)):
        ignoring = collection.create_mask_set(f"ignoring-{name}", config_hash="1", provenance={})
        for part in collection.part_names():
            rows = collection.mask_set(name).read_part(part).to_pylist()
            masks = [decode_mask(row["mask"]) for row in rows]
            for mask in masks:
                mask[: 2 * top] = 255
            ids = [[entry["id"] for entry in row["classes"]] for row in rows]
            kept = [mask_row(row["image_id"], *pair) for row, *pair in zip(rows, masks, ids, strict=True)]
            ignoring.write_part(part, mask_table(kept))
    cells = Comparison(collection, ["ignoring-objects", "ignoring-truth"], most=1).rows(0, 1)[0].cells
    (colour, words), (no_colour, hatched) = (cell.entries[-1] for cell in cells)
    assert colour == IGNORED and words.startswith("ignored ") and no_colour is None and hatched.endswith("% (hatched)")


def test_objects_without_classes_agree_with_any_class(collection: Collection) -> None:
    compared = Comparison(collection, ["objects", "truth", "gaps"], most=2).rows(0, 10)
    assert [row.agreement for row in compared] == [1.0, 1.0] and len(compared[0].cells) == 3
    assert compared[0].cells[0].entries[0][1].startswith("object ") and compared[0].cells[0].entries[0][0] == FOREGROUND
    named = collection.create_mask_set("named", config_hash="1", provenance={})
    collection.add_classes({99: "object"})
    for part in collection.part_names():
        table = collection.mask_set("objects").read_part(part).to_pylist()
        rows = [{**row, "classes": [{"id": 99, "pixels": row["classes"][0]["pixels"]}]} for row in table]
        named.write_part(part, mask_table(rows))
    assert [row.agreement for row in Comparison(collection, ["named", "truth"], most=2).rows(0, 2)] == [1.0, 1.0]
    with pytest.raises(ValueError, match="has no mask set 'nothing'"):
        Comparison(collection, ["nothing"], most=2)
