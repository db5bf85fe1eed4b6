"""Collections from strangers and from failing disks: what is not as it says is found, and leads nowhere."""

import json
import os
import random
import shutil
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fss.collection import Collection, ImageReader, MaskSet
from fss.collection.acceptance_file import check_acceptance_file
from fss.collection.schema import image_table, make_image_id, mask_table
from fss.collection.upgrade import refresh_manifests
from fss.collection.verify import find_problems
from fss.core import storage
from fss.episodes.config import OFF, SplitConfig
from fss.images.mask_codec import MAX_PIXELS, decode_mask, mask_row
from fss.saliency.config import SaliencyConfig
from fss.saliency.pseudomask import pseudomask_part
from fss.training.few_shot.config import StreamConfig
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from pipelines.runtime.validation import check_collection
from tests.helpers.bad_files.formats import encoded, picture, png
from tests.helpers.discs import noisy_collection


def forget_hashes(collection: Collection) -> None:
    """Delete the record of the files that were written, and the checksums, which fss 0.2 did not have."""
    for fragment in Path(collection.uri).rglob("*.arrow"):
        fragment.unlink()
    for file in Path(collection.uri).rglob("*.json"):
        file.write_text(
            json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "checksum"})
        )


def rewrite(collection: Collection, folder: str, **columns: list[object]) -> None:
    """Write columns of the first part anew, past all checks and without its hash."""
    forget_hashes(collection)
    path = Path(collection.uri) / folder / "part-00000.parquet"
    table = pq.read_table(path)
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    pq.write_table(table, path)


def test_a_consistent_collection_has_no_problems(collection: Collection) -> None:
    assert list(find_problems(collection)) == []


def test_image_bytes_that_do_not_match_their_id(collection: Collection) -> None:
    images = [encoded("PNG"), encoded("PNG", picture((48, 40)).rotate(180)), b"garbage"]
    ids = [*collection.image_ids()["part-00000"][:2], make_image_id(images[2], "2.png")]
    rewrite(collection, "images", image=images, image_id=ids)
    found = list(find_problems(collection))
    assert [text.split(":")[0] for text in found] == ["part-00000 row 1", "part-00000 row 2"]
    assert "are not those that were ingested" in found[0]
    assert "unknown-format" in found[1]


def test_parts_that_were_exchanged(collection: Collection) -> None:
    forget_hashes(collection)
    masks = Path(collection.uri) / "masks" / "truth"
    (masks / "part-00000.parquet").rename(masks / "x")
    (masks / "part-00001.parquet").rename(masks / "part-00000.parquet")
    (masks / "x").rename(masks / "part-00001.parquet")
    found = list(find_problems(collection))
    assert len(found) == 2
    assert all("does not hold the masks of its images" in text for text in found)


def test_malformed_and_duplicate_ids(collection: Collection) -> None:
    first = collection.image_ids()["part-00000"][0]
    rewrite(collection, "images", image_id=[first, first, "../../etc/passwd"])
    found = "\n".join(find_problems(collection))
    assert "occurs twice" in found
    assert "'../../etc/passwd' is not an image id" in found


@pytest.mark.parametrize(
    ("mask", "classes", "message"),
    [
        (np.zeros((10, 10), np.uint8), [7], "the mask is [10, 10], but the image is [40, 48]"),
        (np.full((40, 48), 1, np.uint8), [7, 300], None),
        (None, [], "neither a mask nor an error"),
    ],
)
def test_masks_that_do_not_fit(
    collection: Collection, mask: np.ndarray | None, classes: list[int], message: str | None
) -> None:
    forget_hashes(collection)
    ids = collection.image_ids()["part-00000"]
    rows = [mask_row(name, mask, classes, error=None if mask is not None else "gone") for name in ids]
    table = mask_table(rows if mask is not None else [{**row, "error": None} for row in rows])
    pq.write_table(table, Path(collection.uri) / "masks" / "truth" / "part-00000.parquet")
    found = list(find_problems(collection))
    assert len(found) == (3 if message else 0)
    assert all(str(message) in text for text in found)


def test_classes_that_are_not_in_the_mask(collection: Collection) -> None:
    rewrite(collection, "masks/truth", classes=[[{"id": 7, "pixels": 3}], [{"id": 7, "pixels": 480}], []])
    assert len([text for text in find_problems(collection) if "do not match the classes of its row" in text]) == 3


def test_a_damaged_part_is_reported_and_the_others_are_checked(collection: Collection) -> None:
    forget_hashes(collection)
    (Path(collection.uri) / "images" / "part-00000.parquet").write_bytes(b"PAR1 no PAR1")
    pq.write_table(pa.table({"x": [1]}), Path(collection.uri) / "masks" / "truth" / "part-00001.parquet")
    found = list(find_problems(collection))
    assert len(found) == 2
    assert "cannot be read" in found[0]
    assert "has the columns" in found[1]


def test_a_reference_to_a_device_a_pipe_or_a_huge_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 40)  # a sparse terabyte
    collection = Collection.create(str(tmp_path / "c"), name="c", source="test")
    uris = ["/dev/zero", str(tmp_path / "pipe"), str(tmp_path / "huge.png"), "http://somewhere/a.jpg", str(tmp_path)]
    rows = [
        {"image_id": make_image_id(None, uri), "uri": uri, "height": 9, "width": 9, "format": "PNG"} for uri in uris
    ]
    collection.write_part("part-00000", image_table(rows))
    reader = ImageReader(collection)
    for row in rows:
        with pytest.raises((ValueError, OSError), match=r"regular file|too-many-bytes|cannot open"):
            reader.read(str(row["image_id"]))
    with pytest.raises(OSError, match="regular file"):
        storage.read_bytes("/dev/zero")


def test_a_mask_that_unpacks_to_gigabytes_or_is_no_png_is_refused() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(ValueError, match="8-bit grey PNG"):
        decode_mask(png(side, side, bytes(1000)))
    for form in ("JPEG", "TIFF", "WEBP", "BMP"):
        with pytest.raises(ValueError, match="8-bit grey PNG"):
            decode_mask(encoded(form, picture().convert("L")))


def test_an_untrusted_collection_cannot_point_outside_itself(collection: Collection, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "evil").mkdir(parents=True)
    for name in ("_set.json", "set.json"):
        (outside / "evil" / name).write_text("{}")
    for folder in ("masks", "metadata"):
        (Path(collection.uri) / folder / "..evil").mkdir()
    for name in ("../../outside/evil", "/etc", "..evil", "a/../../outside/evil"):
        with pytest.raises(ValueError, match="cannot be named"):
            collection.mask_set(name)
    assert collection.mask_set_names() == ["truth"]


def train(collection: Collection, masks: MaskSet) -> None:
    """Read the episodes of an epoch."""
    stream = MaskSplitStream(
        collection,
        masks,
        image_size=32,
        stream=StreamConfig(batch_size=4, held_out=0.0),
        split=SplitConfig(),
        augment=OFF,
    )
    assert list(stream.batches(0))


def mutate(folder: Path, rng: random.Random) -> str:
    """Damage one file of a collection, and return what was done."""
    files = sorted(path for path in folder.rglob("*") if path.name.startswith("part-0") or path.suffix == ".json")
    file = rng.choice([path for path in files if path.suffix != ".arrow"])
    data, kind = (
        bytearray(file.read_bytes()),
        rng.choice(["flip", "flip", "flip", "cut", "zeros", "delete", "exchange"]),
    )
    place = rng.randrange(len(data))
    others = [path for path in files if path.parent == file.parent and path != file]
    if kind == "flip":
        data[place] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[place:]
    elif kind == "zeros":
        place = min(place, len(data) - 64)
        data[place : place + 64] = bytes(64)
    elif kind == "exchange" and others:
        data = bytearray(rng.choice(others).read_bytes())
    else:
        kind = "delete"
    file.unlink() if kind == "delete" else file.write_bytes(data)
    return f"{kind} {file.relative_to(folder)} at {place}"


@pytest.mark.parametrize("compacted", [False, True])
def test_every_mutation_of_a_file_is_noticed(tmp_path: Path, compacted: bool) -> None:
    collection, _ = noisy_collection(tmp_path / "c", 24)
    if compacted:
        refresh_manifests(collection)
    assert list(find_problems(collection)) == []
    rng, unnoticed = random.Random(compacted), []
    for number in range(50):
        copy = Path(shutil.copytree(tmp_path / "c", tmp_path / str(number)))
        damage = mutate(copy, rng)
        with suppress(ValueError):  # a damaged JSON file, which opening notices
            if not list(find_problems(Collection.open(str(copy)))):
                unnoticed.append(damage)
    assert not unnoticed


def test_damage_is_not_forgotten_when_the_manifest_is_refreshed(tmp_path: Path) -> None:
    collection, _ = noisy_collection(tmp_path / "c", 24)
    first, second = (tmp_path / "c/images" / f"part-0000{number}.parquet" for number in (0, 1))
    for number, file in enumerate((first, second)):
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 1
        file.write_bytes(data)
        os.utime(file, ns=(time.time_ns(), time.time_ns() + 10**9))
        refresh_manifests(collection)
        assert sum("is not the file that was written" in text for text in find_problems(collection)) == number + 1
    assert not list(Path(collection.uri).rglob("*.arrow"))


def test_a_changed_acceptance_is_noticed(tmp_path: Path) -> None:
    collection, masks = noisy_collection(tmp_path / "c", 24)
    masks.write_acceptance("default", {"quantile": 0.5}, collection.image_ids()["part-00000"])
    assert list(find_problems(collection)) == []
    file = Path(masks.acceptance_uri("default"))
    data = file.read_bytes()
    table, noticed, places = pq.read_table(pa.BufferReader(data)), 0, range(4, len(data), 16)
    for place in places:
        file.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        found = list(find_problems(collection))
        noticed += bool(found)
        assert found, place
    assert noticed == len(places)
    header = {key: value for key, value in table.schema.metadata.items() if key != b"fss.sealed"}  # as fss 0.2
    pq.write_table(table.slice(1).replace_schema_metadata(header), file)
    with pytest.raises(ValueError, match="its rule and ids are not those of its hash"):
        check_acceptance_file(masks.read_acceptance("default"))


def test_masks_of_other_images_and_lost_parts_stop_who_uses_them(tmp_path: Path) -> None:
    collection, masks = noisy_collection(tmp_path / "c", 24)
    first, second = (tmp_path / "c/masks/saliency" / f"part-0000{number}.parquet" for number in (0, 1))
    shutil.copyfile(second, first)
    image_id = collection.image_ids()["part-00000"][0]
    for read in (
        lambda: masks.read_part("part-00000", ["mask"]),
        lambda: masks.read_part("part-00000", ["mask"], rows=[3, 1]),
        lambda: ImageReader(collection, masks).read(image_id),
        lambda: train(collection, masks),
    ):
        with pytest.raises(ValueError, match="part-00000 of the mask set 'saliency' does not hold the masks of its"):
            read()
    (tmp_path / "c/images/part-00001.parquet").unlink()
    with pytest.raises(ValueError, match=r"has lost 1 of its parts \(part-00001\)"):
        check_collection(collection.uri)
    refresh_manifests(collection)
    assert collection.parts.lost() == ["part-00001"]
    second.unlink()
    with pytest.raises(ValueError, match="masks/saliency has lost 1 of its parts"):
        masks.ordered_parts()


def test_a_changed_picture_stops_a_training_and_costs_a_mask_job_one_row(tmp_path: Path) -> None:
    collection, masks = noisy_collection(tmp_path / "c", 24)
    rows = collection.read_part("part-00000").to_pylist()
    rows[2]["image"] = encoded("PNG", picture((64, 48)))
    collection.write_part("part-00000", image_table(rows))
    with pytest.raises(ValueError, match=r"not any more: changed: the bytes of .* are not those that were ingested"):
        train(collection, masks)
    collection.create_mask_set("again", config_hash="0" * 16, provenance={})
    assert pseudomask_part(collection.uri, "again", "part-00000", SaliencyConfig())["errors"] == 1
