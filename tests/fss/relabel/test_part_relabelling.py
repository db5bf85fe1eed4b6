"""Relabelling of whole parts: features, neighbours and new masks, also of broken and empty images."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fss.collection import Collection, MaskSet, part_io
from fss.collection.part_pipeline import RowSelection
from fss.images.mask_codec import decode_mask, decode_soft
from fss.models import FewShotSegmenter
from fss.relabel import RelabelConfig, feature_tables
from fss.relabel.neighbours import find_neighbours
from fss.relabel.part_relabelling import feature_parts, relabel_parts
from fss.relabel.relabeller import Relabeller
from fss.relabel.supports import shot_reader
from fss.relabel.votes import Voter
from tests.helpers.discs import coloured_collection

# A random network has no confident pixels, so every pixel above one half is object.
CONFIG = RelabelConfig(shots=2, min_similarity=-1.0, foreground=0.5, background=0.5, dims=32)


def voter_of(collection: Collection, segmenter: FewShotSegmenter) -> Voter:
    return Voter(segmenter, shot_reader(collection.mask_set("saliency"), segmenter.config.image_size))


def relabel(
    collection: Collection,
    segmenter: FewShotSegmenter,
    *,
    name: str = "round-1",
    config: RelabelConfig = CONFIG,
    names: Sequence[str] | None = None,
    earlier: bool = False,
) -> tuple[MaskSet, dict[str, dict[str, object]]]:
    """Relabel in this process: features, neighbours, masks."""
    current = collection.mask_set("saliency")
    masks = collection.create_mask_set(name, config_hash="b" * 16, provenance={})
    names = names or collection.part_names()
    features = feature_parts(
        names, masks=masks, current=current, segmenter=segmenter, dims=config.dims, seed=config.seed
    )
    assert not [outcome for _, outcome in features if isinstance(outcome, Exception)]
    find_neighbours(masks, names, config)
    voters = [voter_of(collection, segmenter) for _ in range(2)]
    relabeller = Relabeller(config, voters[0], earlier=voters[1:] if earlier else ())
    outcomes = dict(relabel_parts(names, masks=masks, current=current, relabeller=relabeller))
    assert not [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]
    return masks, outcomes  # type: ignore[return-value]


def test_some_rows_are_computed_without_the_part_and_faulty_ones_keep_their_reason(
    tmp_path: Path, segmenter: FewShotSegmenter
) -> None:
    collection = coloured_collection(tmp_path / "c")
    whole, _ = relabel(collection, segmenter)
    current, part = collection.mask_set("saliency"), collection.part_names()[0]
    masks = collection.create_mask_set("again", config_hash="c" * 16, provenance={})
    some, faulty = RowSelection(only=range(1, 2)), RowSelection(faulty={1: "its process died"})
    make_features = partial(feature_parts, masks=masks, current=current, segmenter=segmenter, dims=CONFIG.dims, seed=0)
    for selection, features in ((some, set()), (faulty, {part})):
        ((_, statistics),) = make_features([part], selection=selection)
        assert not isinstance(statistics, Exception)
        assert feature_tables.finished(masks, "features") == features
    assert feature_tables.read(masks, "features", part).column("feature").to_pylist()[1] is None
    feature_tables.write(masks, "neighbours", part, feature_tables.read(whole, "neighbours", part).to_pylist())
    relabeller = Relabeller(CONFIG, voter_of(collection, segmenter))
    for selection, written in ((some, set()), (faulty, {part})):
        ((_, statistics),) = relabel_parts(
            [part], masks=masks, current=current, relabeller=relabeller, selection=selection
        )
        assert not isinstance(statistics, Exception)
        assert statistics["errors"] == len(written)
        assert masks.finished_parts() == written
    first, second, *_ = rows_of(masks)
    assert first["mask"] == rows_of(whole)[0]["mask"]
    assert second["error"] == "faulty: its process died"


def rows_of(masks: MaskSet) -> list[dict[str, object]]:
    return [row for part in sorted(masks.finished_parts()) for row in masks.read_part(part).to_pylist()]


def test_every_image_has_a_row_with_mask_soft_map_and_scores(tmp_path: Path, segmenter: FewShotSegmenter) -> None:
    collection = coloured_collection(tmp_path / "c", broken=(5,))
    masks, outcomes = relabel(collection, segmenter, earlier=True)
    rows = rows_of(masks)
    assert [row["image_id"] for row in rows] == [name for ids in collection.image_ids().values() for name in ids]
    assert rows[5]["error"] and not rows[5]["error"].startswith("relabel") and rows[5]["mask"] is None
    assert sum(outcome["errors"] for outcome in outcomes.values()) == 1
    assert all(outcome["network"] > 0 for outcome in outcomes.values())
    for row in rows[:5] + rows[6:]:
        mask, soft = decode_mask(row["mask"]), decode_soft(row["soft"])
        assert mask.shape == soft.shape == (60, 72)
        assert ((mask == 1) == (np.rint(soft * 255) >= 128)).mean() > 0.98
        assert row["classes"] == ([{"id": 1, "pixels": int((mask == 1).sum())}] if (mask == 1).any() else [])
        scores = row["scores"]
        assert scores["area"] == pytest.approx((mask == 1).mean()) and scores["gate_area"] is not None
        if mask.any():
            assert 0 <= scores["view"] <= 1 and 0 <= scores["support"] <= 1 and 0 <= scores["previous"] <= 1
            assert scores["checkpoint"] == 1.0  # the earlier checkpoint is the same one
            assert scores["agreement"] is None


def test_an_image_without_mask_and_neighbours_gets_a_reason(tmp_path: Path, segmenter: FewShotSegmenter) -> None:
    collection = coloured_collection(tmp_path / "c", empty=(3,))
    config = RelabelConfig(supports="self", foreground=0.5, background=0.5)
    rows = rows_of(relabel(collection, segmenter, config=config)[0])
    assert rows[3]["error"].startswith("relabel: no support") and rows[3]["mask"] is None
    assert [row["error"] for row in rows].count(None) == 11
    neighbours = rows_of(relabel(collection, segmenter, name="round-2")[0])
    assert neighbours[3]["error"] is None and neighbours[3]["mask"] is not None


def test_parts_have_the_same_bytes_alone_or_together(tmp_path: Path, segmenter: FewShotSegmenter) -> None:
    first, _ = relabel(coloured_collection(tmp_path / "a"), segmenter)
    second, _ = relabel(coloured_collection(tmp_path / "b"), segmenter)
    third = relabel_part_by_part(coloured_collection(tmp_path / "c"), segmenter)
    names = [f"{name}.parquet" for name in sorted(first.finished_parts())]
    for other in (second, third):
        assert all(Path(first.uri, name).read_bytes() == Path(other.uri, name).read_bytes() for name in names)


def relabel_part_by_part(collection: Collection, segmenter: FewShotSegmenter) -> MaskSet:
    """Relabel every part with a new relabeller, last part first."""
    whole, _ = relabel(collection, segmenter)
    for name in sorted(whole.finished_parts()):
        Path(whole.uri, f"{name}.parquet").unlink()
    for name in reversed(collection.part_names()):
        relabeller = Relabeller(CONFIG, voter_of(collection, segmenter))
        list(relabel_parts([name], masks=whole, current=collection.mask_set("saliency"), relabeller=relabeller))
    return whole


def test_a_damaged_part_does_not_affect_the_others(tmp_path: Path, segmenter: FewShotSegmenter) -> None:
    collection = coloured_collection(tmp_path / "c")
    masks, _ = relabel(collection, segmenter)
    for name in collection.part_names():
        Path(masks.uri, f"{name}.parquet").unlink()
    Path(masks.metadata_uri, "neighbours/part-00001.parquet").write_bytes(b"half a table")
    relabeller = Relabeller(CONFIG, voter_of(collection, segmenter))
    current = collection.mask_set("saliency")
    outcomes = dict(relabel_parts(collection.part_names(), masks=masks, current=current, relabeller=relabeller))
    assert isinstance(outcomes["part-00001"], ValueError) and "cannot be read" in str(outcomes["part-00001"])
    assert masks.finished_parts() == {"part-00000", "part-00002"}


def test_the_truth_is_never_opened(
    tmp_path: Path, segmenter: FewShotSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = coloured_collection(tmp_path / "c")
    truth = collection.create_mask_set("truth", config_hash="c" * 16, provenance={})
    for name in collection.part_names():
        truth.write_part(name, collection.mask_set("saliency").read_part(name))
    opened: list[str] = []
    real = part_io.read

    def read(folder: str, *rest: object) -> object:
        opened.append(Path(folder).name)
        return real(folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(part_io, "read", read)
    relabel(collection, segmenter)
    assert {"images", "saliency"} <= set(opened) and "truth" not in opened


def test_every_usable_image_has_features(tmp_path: Path, segmenter: FewShotSegmenter) -> None:
    collection = coloured_collection(tmp_path / "c", broken=(5,), empty=(3,))
    masks, _ = relabel(collection, segmenter)
    rows = [row for name in collection.part_names() for row in feature_tables.read(masks, "features", name).to_pylist()]
    assert [row["feature"] is None for row in rows] == [number == 5 for number in range(12)]
    assert [row["masked"] for row in rows] == [number not in (3, 5) for number in range(12)]
    assert all(len(row["feature"]) == 32 for row in rows if row["feature"])


def test_refined_masks_have_the_size_of_the_image(tmp_path: Path, segmenter: FewShotSegmenter) -> None:
    collection = coloured_collection(tmp_path / "c", count=4, broken=(1,))
    masks, _ = relabel(collection, segmenter, config=replace(CONFIG, edges=True))
    plain, _ = relabel(collection, segmenter, name="plain")
    rows = rows_of(masks)
    assert [row["mask"] is None for row in rows] == [False, True, False, False]
    assert all(decode_mask(row["mask"]).shape == (60, 72) for row in rows if row["mask"])
    assert any(row["soft"] != other["soft"] for row, other in zip(rows, rows_of(plain), strict=True))


def test_views_too_small_for_the_network_are_refused(segmenter: FewShotSegmenter) -> None:
    least = segmenter.learner.min_side
    with pytest.raises(ValueError, match="too small"):
        Relabeller(RelabelConfig(scales=(1.0, (least - 1) / 96)), Voter(segmenter, lambda name: None))  # type: ignore
