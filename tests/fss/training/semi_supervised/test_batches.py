"""The rows of a semantic training, and steps that depend only on their number."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from fss.collection import Collection, ingest_local, part_io
from fss.collection.class_map import ClassTable
from fss.collection.sources import SourceConfig
from fss.core.rng import keyed_rng
from fss.training.semi_supervised.batches import SemanticBatch, SemanticStream
from fss.training.semi_supervised.config import LabelledConfig, SemanticStreamConfig, StrongConfig, WeakConfig
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import scan_rows
from fss.training.semi_supervised.strong_augmentation import warp_labels
from fss.training.semi_supervised.weak_augmentation import WeakView, apply_weak, apply_weak_to_labels, draw_weak
from tests.helpers import scenes

PICTURES, LABELLED = 11, 3
CONFIG = SemanticStreamConfig(weak=WeakConfig(crop=(32, 48), scales=(0.7, 1.3)), lanes=2, decode_threads=1, ahead=0)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    made = scenes.build(tmp_path_factory.mktemp("scenes") / "c", PICTURES, LABELLED)
    scenes.write_masks(made, "stage-1")
    return made


def stream(
    collection: Collection, config: SemanticStreamConfig = CONFIG, *, pool: int = 4, rank: int = 0, world: int = 1
) -> SemanticStream:
    return SemanticStream(
        SemanticReader(collection, ClassTable(collection.classes), cache_gb=0.1),
        scan_rows(collection.mask_set("truth"), LabelledConfig()),
        config,
        truth=collection.mask_set("truth"),
        pseudo=collection.mask_set("stage-1") if pool else None,
        labelled=2,
        pool=pool,
        rank=rank,
        world=world,
    )


def flat(batches: Iterator[SemanticBatch]) -> list[tuple[str, bytes]]:
    """Every picture with the bytes of all that a step sees of it, in one order."""
    seen = []
    for batch in batches:
        for part in filter(None, batch):
            names, *tensors = part
            seen += [(name, b"".join(t[n].numpy().tobytes() for t in tensors)) for n, name in enumerate(names)]
    return seen


def test_mixed_pictures_and_strong_labels_do_not_depend_on_workers(collection: Collection) -> None:
    config = replace(CONFIG, strong=StrongConfig(mix="cutmix", mix_probability=1.0, labelled=True, cutouts=0))
    whole = flat(stream(collection, config).batches(0, 5))
    halves = [flat(stream(collection, config, rank=rank, world=2).batches(0, 5)) for rank in (0, 1)]
    assert sorted(halves[0] + halves[1]) == sorted(whole)
    with pytest.raises(ValueError, match=r"two pictures of the pool per worker, got 4 for 3 workers; .* 2 --workers"):
        stream(collection, config, rank=0, world=3)
    with pytest.raises(ValueError, match=r"use --strong.mix cutmix"):
        replace(CONFIG, strong=StrongConfig(mix="classmix"), cache_features=1)


def test_labelled_rows_have_a_mask_and_the_pool_is_everything(collection: Collection) -> None:
    rows = scan_rows(collection.mask_set("truth"), LabelledConfig())
    assert rows.counts == {"labelled": LABELLED, "pool": PICTURES, "unusable": 0}
    assert [len(part) for part in rows.labelled] == [3, 0, 0]
    two = [scan_rows(collection.mask_set("truth"), LabelledConfig(count=2, seed=seed)).hash for seed in (0, 0, 1, 2, 3)]
    assert two[0] == two[1] and len(set(two)) > 1
    accepted = collection.read_part("part-00002", ["image_id"]).column("image_id").to_pylist()
    kept = scan_rows(collection.mask_set("truth"), LabelledConfig(), accepted=set(accepted))
    assert kept.counts["pool"] == len(accepted) + LABELLED


def test_a_list_names_labelled_pictures_by_path_or_id(collection: Collection, tmp_path: Path) -> None:
    name = collection.read_part("part-00000", ["image_id"]).column("image_id")[1].as_py()
    (tmp_path / "list.txt").write_text(f"right/0.png masks/right/0.png\n\n{name}\n")
    rows = scan_rows(collection.mask_set("truth"), LabelledConfig(list_file=str(tmp_path / "list.txt")))
    assert [part.tolist() for part in rows.labelled] == [[0, 1], [], []]
    (tmp_path / "list.txt").write_text("left/4.png\n")  # there, without a mask
    with pytest.raises(ValueError, match=r"does not have with a mask in 'truth': left/4.png"):
        scan_rows(collection.mask_set("truth"), LabelledConfig(list_file=str(tmp_path / "list.txt")))
    (tmp_path / "list.txt").write_text("0.png\n")
    with pytest.raises(ValueError, match=r"0\.png .* fits right/0\.png and left/0\.png; write more of the path, or"):
        scan_rows(collection.mask_set("truth"), LabelledConfig(list_file=str(tmp_path / "list.txt")))
    with pytest.raises(ValueError, match="there are 3; lower the count"):
        scan_rows(collection.mask_set("truth"), LabelledConfig(count=4))


def test_steps_do_not_depend_on_workers_threads_or_resume(collection: Collection) -> None:
    whole = flat(stream(collection).batches(0, 7))
    threaded = SemanticStreamConfig(weak=CONFIG.weak, lanes=2, decode_threads=3, ahead=2)
    assert flat(stream(collection, threaded).batches(0, 7)) == whole
    assert flat(stream(collection).batches(0, 4)) + flat(stream(collection).batches(4, 7)) == whole
    halves = [flat(stream(collection, rank=rank, world=2).batches(0, 7)) for rank in (0, 1)]
    assert sorted(halves[0] + halves[1]) == sorted(whole)
    fifths = [list(stream(collection, rank=rank, world=5).batches(0, 7)) for rank in range(5)]
    assert sorted(picture for fifth in fifths for picture in flat(iter(fifth))) == sorted(whole)
    assert all(len(batch.labelled.ids) + len(batch.pool.ids) > 0 for fifth in fifths for batch in fifth if batch.pool)
    with pytest.raises(ValueError, match="7 workers cannot share the 6 pictures of a step"):
        stream(collection, world=7)
    assert flat(stream(collection, SemanticStreamConfig(weak=CONFIG.weak, seed=1, ahead=0)).batches(0, 7)) != whole


def test_an_epoch_of_the_pool_sees_each_picture_once(collection: Collection) -> None:
    steps = (PICTURES // 2) // 2
    names = [name for batch in stream(collection).batches(0, steps) if batch.pool for name in batch.pool.ids]
    assert len(names) == len(set(names)) == 4 * steps


def test_masks_follow_the_picture_into_both_views(collection: Collection) -> None:
    plain = SemanticStreamConfig(weak=CONFIG.weak, lanes=2, ahead=0)
    for batch in stream(collection, plain).batches(0, 5):
        assert batch.pool is not None
        colours = torch.tensor(scenes.COLOURS)
        weak = (batch.pool.pixels.permute(0, 2, 3, 1)[..., None, :].float() - colours).abs().sum(-1).argmin(-1)
        valid = batch.pool.pseudo != 255
        assert (weak[valid] == batch.pool.pseudo[valid]).float().mean() > 0.93  # but for the noise at borders
        assert torch.equal(batch.labelled.truth, batch.labelled.pseudo)  # the stage's masks are the scenes' own here
        assert torch.equal(batch.labelled.inside, batch.labelled.truth != 255)
        moved = warp_labels(batch.pool.pseudo, batch.pool.source)
        assert ((moved == 255) == (batch.pool.source < 0)).all()


def test_no_truth_of_an_unlabelled_picture_is_opened(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    labels = SemanticReader.labels

    def spy(self: SemanticReader, masks: object, part: int, row: int) -> np.ndarray:
        opened.append((masks.name, self.image_id(part, row)))  # type: ignore[attr-defined]
        return labels(self, masks, part, row)  # type: ignore[arg-type]

    monkeypatch.setattr(SemanticReader, "labels", spy)
    one = scan_rows(collection.mask_set("truth"), LabelledConfig(count=2))
    running = stream(collection)
    running = SemanticStream(
        running.reader,
        one,
        CONFIG,
        truth=collection.mask_set("truth"),
        pseudo=collection.mask_set("stage-1"),
        labelled=2,
        pool=4,
    )
    list(running.batches(0, 12))
    ids = list(collection.image_ids().values())
    labelled = {ids[part][row] for part, rows in enumerate(one.labelled) for row in rows}
    assert {name for set_name, name in opened if set_name == "truth"} == labelled
    assert len({name for set_name, name in opened if set_name == "stage-1"}) == PICTURES


def test_large_parts_are_read_and_shuffled_in_blocks(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = flat(stream(collection).batches(0, 12))  # parts of 4 rows
    monkeypatch.setattr(part_io, "ROW_GROUP", 2)
    large = Collection.create(str(tmp_path / "c"), name="c", source="test", part_size=12, classes=collection.classes)
    for name in ("truth", "stage-1"):
        large.create_mask_set(name, config_hash="0", provenance={})
    parts = collection.part_names()
    large.write_part("part-00000", pa.concat_tables([collection.read_part(part) for part in parts]))
    for name in ("truth", "stage-1"):
        masks = pa.concat_tables([collection.mask_set(name).read_part(part) for part in parts])
        large.mask_set(name).write_part("part-00000", masks)
    reads: list[int] = []
    read = part_io.read
    monkeypatch.setattr(part_io, "read", lambda *words: reads.append((table := read(*words)).num_rows) or table)
    running = stream(large)
    reads.clear()
    assert flat(running.batches(0, 12)) == small
    assert set(reads) <= {3, 4}, "a block of four rows, or the last one of three"


def test_a_truth_without_the_parts_of_unlabelled_pictures_will_do(collection: Collection, tmp_path: Path) -> None:
    lean = scenes.build(tmp_path / "lean", PICTURES, LABELLED)
    scenes.write_masks(lean, "stage-1")
    for part in ("part-00001", "part-00002"):
        (tmp_path / "lean/masks/truth" / f"{part}.parquet").unlink()
    assert flat(stream(lean).batches(0, 6)) == flat(stream(collection).batches(0, 6))


def test_a_folder_with_masks_for_a_few_will_do(tmp_path: Path) -> None:
    for number in range(5):
        for kind in ("images", "masks"):
            (tmp_path / "folder" / kind).mkdir(parents=True, exist_ok=True)
        data, labels = scenes.scene(number)
        (tmp_path / f"folder/images/{number}.png").write_bytes(data)
        if number in (1, 4):
            Image.fromarray(labels).save(tmp_path / f"folder/masks/{number}.png")
    source = SourceConfig(path=str(tmp_path / "folder"), masks="index", background=None)
    made = ingest_local(source, str(tmp_path / "c"))
    assert list(made.classes) == [0, 1, 2]
    rows = scan_rows(made.mask_set("truth"), LabelledConfig())
    assert rows.counts == {"labelled": 2, "pool": 5, "unusable": 0} and rows.labelled[0].tolist() == [1, 4]
    labels = SemanticReader(made, ClassTable(made.classes)).labels(made.mask_set("truth"), 0, 4)
    assert np.array_equal(labels, scenes.scene(4)[1])


def test_an_incomplete_stage_is_reported(collection: Collection) -> None:
    partial = collection.create_mask_set("partial", config_hash="2" * 16, provenance={})
    with pytest.raises(ValueError, match="lacks 3 of 3 parts"):
        SemanticStream(
            SemanticReader(collection, ClassTable(collection.classes)),
            scan_rows(collection.mask_set("truth"), LabelledConfig()),
            CONFIG,
            truth=collection.mask_set("truth"),
            pseudo=partial,
            labelled=2,
            pool=4,
        )


def test_a_small_picture_gets_an_ignored_margin_and_scales_come_in_tenths() -> None:
    view = WeakView(scale=0.5, top=0.3, left=0.9, mirror=False)
    labels = apply_weak_to_labels(np.ones((20, 60), np.uint8), view, (16, 24))
    assert (labels[:10] == 1).all() and (labels[10:] == 255).all()
    assert apply_weak(np.full((20, 60, 3), 7, np.uint8), view, (16, 24))[:, :, 0].tolist()[10][0] == 0
    config = WeakConfig()
    scales = {round(draw_weak(keyed_rng(0, item=n, purpose="test.weak"), config).scale, 6) for n in range(300)}
    assert scales == {round(0.5 + 0.1 * n, 6) for n in range(11)}
    with pytest.raises(ValueError, match="scales is a range above 0, lower end first"):
        WeakConfig(scales=(1.2, 0.8))
