"""The bank of supports gives the same shots as the collection, also without a picture of its own."""

from pathlib import Path

import numpy as np
import pytest

from fss.collection import Collection, MaskSet, part_io
from fss.images.limits import DecodeLimits
from fss.relabel import RelabelConfig, feature_tables, support_bank
from fss.relabel.class_bank import bank_reader, drawn_shots, parse_shot_name
from fss.relabel.neighbours import find_neighbours
from fss.relabel.support_bank import SUPPORTS, support_reader, write_candidate_supports, write_shots
from fss.relabel.supports import Shot, shot_reader
from tests.helpers.discs import coloured_collection, fill


def bank_of(collection: Collection, size: int) -> MaskSet:
    """Write candidates and bank of all images but the first of each part, which have no feature."""
    masks = collection.create_mask_set("round-1", config_hash="b" * 16, provenance={})
    for part in collection.part_names():
        rows = []
        for row, name in enumerate(collection.read_part(part, ["image_id"])["image_id"].to_pylist()):
            rows.append({"image_id": name, "feature": [1.0, row] if row else None, "masked": row > 0})
        feature_tables.write(masks, "features", part, rows)
    find_neighbours(masks, collection.part_names(), RelabelConfig())
    for table in feature_tables.finished(masks, "candidates"):
        write_candidate_supports(masks, table, collection.mask_set("saliency"), size)
    return masks


def unknown(name: str) -> Shot:
    raise LookupError(name)


@pytest.mark.parametrize(("size", "original"), [(40, False), (60, False), (200, True)])
def test_supports_equal_those_of_the_collection(tmp_path: Path, size: int, original: bool) -> None:
    collection = coloured_collection(tmp_path / "c")
    masks, direct = bank_of(collection, size), shot_reader(collection.mask_set("saliency"), size)
    read = support_reader(masks, size, collection.limits, unknown)
    for part, ids in collection.image_ids().items():
        for row, name in enumerate(ids):
            if not row:
                with pytest.raises(LookupError, match=name):
                    read(name)
                continue
            (stored,) = [
                each
                for table in support_bank.finished_tables(masks)
                for each in part_io.read(f"{masks.metadata_uri}/supports", table, SUPPORTS, None).to_pylist()
                if each["name"] == name
            ]
            image = collection.read_part(part, ["image"])["image"][row].as_py()
            assert (stored["image"] == image) == original and len(stored["image"]) <= len(image)
            np.testing.assert_array_equal(read(name).rgb, direct(name).rgb)
            np.testing.assert_array_equal(read(name).mask, direct(name).mask)


def test_labelled_shots_equal_those_of_their_collection(tmp_path: Path) -> None:
    labelled = fill(Collection.create(str(tmp_path / "c"), name="c", source="test"), parts=2, rows=3).mask_set("truth")
    ids = {
        name: (part, row) for part, names in labelled.collection.image_ids().items() for row, name in enumerate(names)
    }
    names = drawn_shots({7: list(ids), 300: list(ids)}, RelabelConfig(shots=1, sets=2))
    assert len(names) == 2 * len(ids)
    masks = coloured_collection(tmp_path / "d", count=1).create_mask_set("x", config_hash="1", provenance={})
    write_shots(masks, "part-00000", {}, labelled, 32)
    write_shots(masks, "part-00001", {name: ids[parse_shot_name(name)[1]] for name in names}, labelled, 32)
    read, direct = support_reader(masks, 32, DecodeLimits(), unknown), bank_reader(labelled, 32)
    for name in names:
        np.testing.assert_array_equal(read(name).rgb, direct(name).rgb)
        np.testing.assert_array_equal(read(name).mask, direct(name).mask)
    assert read(names[0]).mask.sum() != read(names[-1]).mask.sum(), "a shot shows one class"
