"""Choices of images for sheets."""

from pathlib import Path

from fss.collection import TRUTH, ClassIndex, ingest_local
from fss.collection.overview import class_names, sample_images, sample_labels
from fss.collection.sources import SourceConfig


def test_a_sheet_shows_every_class_and_every_part(tmp_path: Path) -> None:
    source = SourceConfig(kind="sample", sample="labelled", count=24)
    truth = ingest_local(source, str(tmp_path / "c"), part_size=4).mask_set(TRUTH)
    index = ClassIndex.build(truth)
    part_of = {entry.image_id: entry.part for entries in index.values() for entry in entries}
    few, again, other = (list(sample_labels(truth, count=12, seed=seed)) for seed in (0, 0, 1))
    assert [sample.image_id for sample in few] == [sample.image_id for sample in again]
    assert [sample.image_id for sample in few] != [sample.image_id for sample in other]
    assert {class_id for sample in few for class_id in sample.classes} == set(index)
    assert {part_of[sample.image_id] for sample in few} == set(truth.ordered_parts())
    for sample in few:
        assert sample.mask is not None and sample.rgb.shape[:2] == sample.mask.shape
    assert len(list(sample_labels(truth, count=100, seed=0))) == 24
    assert len(list(sample_images(truth.collection, count=5, seed=0))) == 5
    pseudo = truth.collection.create_mask_set("saliency", config_hash="1", provenance={})
    assert class_names(pseudo, [1]) == {1: "object"}
    assert class_names(truth, [1]) == class_names(pseudo, [1, 2]) == truth.collection.classes
