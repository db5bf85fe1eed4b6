"""Features, neighbours and clusters, and their tables beside a mask set."""

import pickle
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch

from fss.collection import MaskSet
from fss.core.rng import keyed_rng
from fss.models import FewShotSegmenter
from fss.relabel import RelabelConfig, candidates, feature_tables, neighbours
from fss.relabel.candidates import count_rows, plan_search, write_candidates
from fss.relabel.features import pooled_features, project
from fss.relabel.neighbours import Clusters, Neighbours, build_search, find_neighbours
from tests.helpers.discs import coloured_collection


def unit(count: int, dims: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, dims)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_features_depend_on_the_mask_only(segmenter: FewShotSegmenter) -> None:
    images = torch.rand(1, 3, 96, 96).expand(3, -1, -1, -1)
    masks = torch.zeros(3, 96, 96)
    masks[1, :, :48], masks[2] = 1, 1
    empty, half, full = pooled_features(segmenter, images, masks)
    assert torch.allclose(empty, full) and not torch.allclose(half, full)
    deepest = next(stage[-1] for stage in reversed(segmenter.backbone(images[:1])) if stage)
    left = deepest[0, :, :, : deepest.shape[3] // 2]
    if deepest.shape[3] % 2 == 0:
        assert torch.allclose(half, torch.nn.functional.normalize(left.mean((1, 2)), dim=0), atol=1e-5)
    assert torch.allclose(full.norm(), torch.tensor(1.0))


def test_projection_roughly_preserves_cosines_and_keeps_short_features() -> None:
    features = torch.from_numpy(unit(20, 2000))
    features[1] = torch.nn.functional.normalize(features[0] + 0.5 * features[1], dim=0)
    projected = project(features, 256, seed=0)
    assert projected.shape == (20, 256)
    assert float((projected @ projected.T - features @ features.T).abs().max()) < 0.25
    assert torch.equal(projected, project(features, 256, seed=0))
    assert not torch.equal(projected, project(features, 256, seed=1))
    assert torch.equal(project(features, 2000, seed=0), features)


def test_neighbours_match_a_brute_force_search() -> None:
    features = unit(50, 16)
    names = [f"{row:016x}-0" for row in range(50)]
    neighbours = Neighbours.build(names, features).search(names[:5], features[:5], 4)
    cosines = features @ features.T
    np.fill_diagonal(cosines, -1)
    for row, near in enumerate(neighbours):
        assert [other.image_id for other in near] == [names[index] for index in np.argsort(-cosines[row])[:4]]
        assert near[0].similarity == pytest.approx(cosines[row].max(), abs=1e-5)


def test_a_copy_of_an_image_is_not_its_neighbour() -> None:
    features = np.repeat(unit(1, 8), 3, axis=0)
    bank = Neighbours.build(["a" * 16 + "-1", "a" * 16 + "-2", "b" * 16 + "-1"], features)
    ((only,),) = bank.search(["a" * 16 + "-1"], features[:1], 3)
    assert only.image_id == "b" * 16 + "-1"


def test_inverted_lists_find_most_of_the_exact_neighbours() -> None:
    centres = unit(20, 32)
    features = np.repeat(centres, 100, axis=0) + 0.1 * unit(2000, 32, seed=1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    names = [f"{row:016x}-0" for row in range(2000)]
    exact = Neighbours.build(names, features).search(names[:40], features[:40], 5)
    lists = Neighbours.build(names, features, flat_limit=1000).search(names[:40], features[:40], 5)
    shared = [
        len({a.image_id for a in left} & {b.image_id for b in right}) for left, right in zip(exact, lists, strict=True)
    ]
    assert np.mean(shared) > 4


def test_clusters_are_recovered() -> None:
    centres = unit(3, 16)
    features = np.repeat(centres, 40, axis=0) + 0.05 * unit(120, 16, seed=1)
    groups = Clusters.train(features, 3, seed=0).assign(features)
    assert [len(set(groups[start : start + 40])) for start in (0, 40, 80)] == [1, 1, 1] and len(set(groups)) == 3
    assert (Clusters.train(features, 3, seed=0).assign(features) == groups).all()


def write_features(masks: MaskSet, parts: list[str]) -> list[str]:
    """Write features that are equal in each third of the collection; the second image of each part is unusable."""
    ids = []
    for part in parts:
        names = masks.collection.read_part(part, ["image_id"]).column("image_id").to_pylist()
        values = [unit(1, 8, seed=len(ids) + row % 3)[0].tolist() for row in range(len(names))]
        rows = [
            {"image_id": name, "feature": None if row == 1 else values[row], "masked": row not in (1, 2)}
            for row, name in enumerate(names)
        ]
        feature_tables.write(masks, "features", part, rows)
        ids += names
    return ids


def test_tables_have_every_row_and_resume(tmp_path: Path) -> None:
    collection = coloured_collection(tmp_path / "c")
    masks = collection.create_mask_set("round-1", config_hash="b" * 16, provenance={})
    parts = collection.part_names()
    ids = write_features(masks, parts)
    config = RelabelConfig(shots=2, sets=2)
    counts = find_neighbours(masks, parts, config)
    assert counts == {"pictures with a feature": 9, "pictures in the bank": 6}
    rows = [row for part in parts for row in feature_tables.read(masks, "neighbours", part).to_pylist()]
    assert [row["image_id"] for row in rows] == ids
    for index, row in enumerate(rows):
        broken = index % 4 == 1
        assert (row["cluster"] is None) == broken and (not row["supports"]) == broken
        assert row["image_id"] not in row["supports"] and not {ids[k] for k in (1, 2, 5, 6)} & set(row["supports"])
        assert row["similarity"] == sorted(row["similarity"], reverse=True)
    files = {path.name: path.read_bytes() for path in Path(masks.metadata_uri, "neighbours").iterdir()}
    Path(masks.metadata_uri, "neighbours/part-00001.parquet").unlink()
    find_neighbours(masks, parts, config)
    assert {path.name: path.read_bytes() for path in Path(masks.metadata_uri, "neighbours").iterdir()} == files
    assert masks.finished_parts() == set()  # the tables are no mask parts


def test_the_bank_holds_accepted_images_up_to_its_size(tmp_path: Path) -> None:
    collection = coloured_collection(tmp_path / "c")
    masks = collection.create_mask_set("round-1", config_hash="b" * 16, provenance={})
    parts = collection.part_names()
    ids = write_features(masks, parts)
    masks.write_acceptance("first", {}, ids[:8])
    find_neighbours(masks, parts, RelabelConfig(bank=2), accepted=masks.read_acceptance("first"))
    rows = [row for part in parts for row in feature_tables.read(masks, "neighbours", part).to_pylist()]
    bank = {name for row in rows for name in row["supports"]}
    assert len(bank) == 2 and bank <= set(ids[:8])
    with pytest.raises(ValueError, match="no image has an accepted mask"):
        masks.write_acceptance("none", {}, [])
        find_neighbours(masks, parts, RelabelConfig(), accepted=masks.read_acceptance("none"))


def test_tables_equal_those_of_a_search_that_holds_all_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PER_CLUSTER", 5), ("SAMPLE", 4), ("TABLE_ROWS", 8)):
        monkeypatch.setattr(candidates, name, value)
    collection = coloured_collection(tmp_path / "c", count=60)
    masks = collection.create_mask_set("round-1", config_hash="b" * 16, provenance={})
    parts, config = collection.part_names(), RelabelConfig(bank=20, clusters=4, shots=2)
    ids, features, usable = [], [], []
    for part in parts:
        rows = []
        for row, name in enumerate(masks.collection.read_part(part, ["image_id"])["image_id"].to_pylist()):
            feature = None if (len(ids) + row) % 7 == 3 else unit(1, 8, seed=len(ids) + row)[0].astype(np.float16)
            rows.append({"image_id": name, "feature": feature, "masked": feature is not None and row != 2})
        feature_tables.write(masks, "features", part, rows)
        kept = [row for row in rows if row["feature"] is not None]
        ids += [row["image_id"] for row in kept]
        features += [np.asarray(row["feature"], np.float32) for row in kept]
        usable += [row["masked"] and row["image_id"][0] in "02468ace" for row in kept]
    masks.write_acceptance("even", {}, [name for name in ids if name[0] in "02468ace"])
    find_neighbours(masks, parts, config, accepted=masks.read_acceptance("even"))
    plan = plan_search(masks, parts, *count_rows(masks, parts, masks.read_acceptance("even")), config)
    assert len(plan.tables()) > 2 and len(plan.sample) == 4 * 4 < len(ids)

    monkeypatch.undo()
    monkeypatch.setattr(faiss, "Kmeans", partial(faiss.Kmeans, max_points_per_centroid=4))
    vectors = np.stack(features) / np.linalg.norm(features, axis=1, keepdims=True)
    rows = np.flatnonzero(usable)
    rows = np.sort(rows[keyed_rng(0, item=len(rows), purpose="relabel.bank").permutation(len(rows))[:20]])
    bank = Neighbours.build([ids[row] for row in rows], vectors[rows])
    clusters = Clusters.train(vectors, 4, seed=0).assign(vectors)
    near = bank.search(ids, vectors, 4)
    tables = [feature_tables.read(masks, "neighbours", part).to_pylist() for part in parts]
    found = {row["image_id"]: row for table in tables for row in table}
    for name, others, cluster in zip(ids, near, clusters.tolist(), strict=True):
        assert found.pop(name) == {
            "image_id": name,
            "cluster": cluster,
            "supports": [other.image_id for other in others],
            "similarity": pytest.approx([other.similarity for other in others], abs=1e-6),
        }
    assert all(row["cluster"] is None for row in found.values())


def test_another_plan_removes_the_tables_of_the_last_one(tmp_path: Path) -> None:
    collection = coloured_collection(tmp_path / "c")
    masks = collection.create_mask_set("round-1", config_hash="b" * 16, provenance={})
    parts = collection.part_names()
    write_features(masks, parts)
    plan_search(masks, parts[:2], *count_rows(masks, parts[:2], None), RelabelConfig())
    find_neighbours(masks, parts[:2], RelabelConfig())
    plan = plan_search(masks, parts[:2], *count_rows(masks, parts[:2], None), RelabelConfig())
    assert feature_tables.finished(masks, "candidates") == set(plan.tables())
    plan_search(masks, parts, *count_rows(masks, parts, None), RelabelConfig())
    assert feature_tables.finished(masks, "candidates") == set()


def test_a_search_is_shared_as_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = coloured_collection(tmp_path / "c", count=24)
    masks = collection.create_mask_set("round-1", config_hash="b" * 16, provenance={})
    parts, config = collection.part_names(), RelabelConfig()
    ids = write_features(masks, parts)
    plan = plan_search(masks, parts, *count_rows(masks, parts, None), config)
    assert plan.clusters == 1, "a cluster has 20 images on average"
    monkeypatch.setattr(neighbours, "count_lists", lambda count: 2)
    for table in plan.tables():
        write_candidates(masks, table, plan, None)
    flat, lists = (build_search(masks, plan, config, flat_limit=limit) for limit in (100, 1))
    query = unit(1, 8, seed=0)
    (first,), (second,) = (
        pickle.loads(pickle.dumps(data)).open().neighbours.search([ids[0]], query, 4) for data in (flat, lists)
    )
    assert [other.image_id for other in first] == [other.image_id for other in second]
    assert first[0].similarity == pytest.approx(second[0].similarity, abs=0.02)


def test_overwriting_a_mask_set_removes_its_tables(tmp_path: Path) -> None:
    collection = coloured_collection(tmp_path / "c")
    masks = collection.create_mask_set("round-1", config_hash="b" * 16, provenance={})
    write_features(masks, collection.part_names())
    assert len(feature_tables.finished(masks, "features")) == 3
    again = collection.create_mask_set("round-1", config_hash="c" * 16, provenance={}, overwrite=True)
    assert feature_tables.finished(again, "features") == set()
    with pytest.raises(ValueError, match="no features of part-00000"):
        feature_tables.read(again, "features", "part-00000")
