"""Near-duplicates: hashes of copies, the search, and what a collection without them is."""

import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from fss.cli.main import main
from fss.collection import Collection, ingest_local
from fss.collection.config import SourceConfig
from fss.collection.duplicates import DropDuplicates, find_duplicates
from fss.collection.near_pairs import find_originals
from fss.collection.verify import find_problems
from fss.images.perceptual_hash import perceptual_hash, turned
from fss.synthetic.picture import render_sample_image

Photographs = dict[str, Image.Image]


def photograph(number: int) -> Image.Image:
    return Image.open(io.BytesIO(render_sample_image(number, 0, "unlabelled").jpeg)).convert("RGB")


def write(folder: Path, photographs: Photographs, quality: int = 95) -> str:
    folder.mkdir(exist_ok=True)
    for name, image in photographs.items():
        image.save(folder / name, quality=quality)
    return str(folder)


def distance(one: int | None, other: int | None) -> int:
    assert one is not None and other is not None
    return (one ^ other).bit_count()


@pytest.mark.parametrize(
    ("copy", "most"),
    [
        (lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC), 4),
        (lambda image: image.resize((image.width * 2, image.height)), 4),
        (lambda image: image.convert("L").convert("RGB"), 4),
        (lambda image: image.rotate(90, expand=True), 4),
        (lambda image: image.rotate(180), 4),
        (lambda image: image.rotate(270, expand=True), 4),
        (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 4),
        (lambda image: image.transpose(Image.Transpose.TRANSVERSE), 4),
    ],
)
def test_copies_are_close_and_other_pictures_are_not(copy: Callable[[Image.Image], Image.Image], most: int) -> None:
    images = [photograph(number) for number in range(6)]
    hashes = [perceptual_hash(np.asarray(image)) for image in images]
    for image, own in zip(images, hashes, strict=True):
        one = perceptual_hash(np.asarray(copy(image)))
        pair = np.array([own, one], np.uint64)
        variants = [pair, *turned(pair)]
        assert min(min(distance(own, int(each[1])), distance(one, int(each[0]))) for each in variants) <= most
    assert min(distance(one, other) for one, other in combinations(hashes, 2)) > 8


def test_a_picture_of_one_colour_has_no_hash() -> None:
    assert perceptual_hash(np.full((40, 50, 3), 77, np.uint8)) is None


@pytest.mark.parametrize("bits", [0, 1, 3, 4, 6])
def test_the_search_finds_the_pairs_of_a_full_comparison(bits: int) -> None:
    rng = np.random.Generator(np.random.Philox(key=bits))
    hashes: NDArray[np.uint64] = rng.integers(0, 2**64, 400, dtype=np.uint64)
    for row in range(200, 400):  # near an earlier one, some of them turned
        flips = [1 << int(bit) for bit in rng.permutation(64)[: row % 9]]
        source = hashes[row - 200 : row - 199]
        variants = [source, *turned(source)]
        hashes[row] = variants[row % 7][0] ^ np.uint64(sum(flips))
    originals, distances = find_originals(hashes, distance=bits)
    variants = np.stack([hashes, *turned(hashes)])
    apart = np.bitwise_count(hashes[:, None, None] ^ variants.T[None]).min(2)
    kept: list[int] = []
    for row in range(400):
        close = [each for each in kept if min(apart[row, each], apart[each, row]) <= bits]
        assert originals[row] == (close[0] if close else -1)
        assert distances[row] == (min(apart[row, close[0]], apart[close[0], row]) if close else 0)
        kept += [] if close else [row]
    assert len(kept) < 400
    assert (find_originals(hashes, distance=bits, kept=400)[0] == -1).all()


def names(collection: Collection) -> set[str]:
    return {Path(row["uri"]).name for row in collection.quarantine().to_pylist()}


def test_copies_of_a_collection_are_listed_and_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images: Photographs = {f"{number}.jpg": photograph(number) for number in range(6)}
    copies = {
        f"copy-{number}.jpg": photograph(number).resize((150, 100)).rotate(90 * number, expand=True)
        for number in (1, 2)
    }
    source = SourceConfig(path=write(tmp_path / "photos", images | copies), order="source")
    collection = ingest_local(source, str(tmp_path / "c"), part_size=3)
    hashes = pd.read_parquet(tmp_path / "c/hashes")
    assert list(hashes) == ["image_id", "hash"] and len(hashes) == 8
    for part in (tmp_path / "c/hashes").iterdir():  # as in a collection of an earlier version
        part.unlink()
    with pytest.raises(SystemExit) as end:
        main(["collection", "duplicates", collection.uri])
    printed = capsys.readouterr().out
    assert end.value.code == 0 and not names(collection)
    assert printed.endswith("2 of 8 photographs nearly repeat 2 others (at most 4 bits differ)\n")
    assert printed.index("/1.jpg") < printed.index("copy-1.jpg") < printed.index("/2.jpg") < printed.index("copy-2.jpg")
    assert len(list((tmp_path / "c/hashes").iterdir())) == 3
    with pytest.raises(SystemExit):
        main(["collection", "duplicates", collection.uri, "--drop-duplicates"])
    assert names(collection) == {"copy-1.jpg", "copy-2.jpg"} and not find_duplicates(collection)
    assert collection.quarantine()["error"][0].as_py().startswith("near-duplicate: of ")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["collection", "duplicates", collection.uri])
    assert capsys.readouterr().out == "none of the 8 photographs nearly repeats another (at most 4 bits differ)\n"
    assert not list(find_problems(collection))


def test_an_ingest_drops_what_repeats_the_evaluation_and_keeps_older_parts(tmp_path: Path) -> None:
    folder = tmp_path / "labelled"
    held_out = {f"{number}.png": photograph(number) for number in range(3)}
    (folder / "masks").mkdir(parents=True)
    write(folder / "images", held_out)
    for name, image in held_out.items():
        mask = np.zeros((image.height, image.width), np.uint8)
        mask[10:30, 10:30] = 255
        Image.fromarray(mask).save(folder / "masks" / name)
    evaluation = ingest_local(SourceConfig(path=str(folder)), str(tmp_path / "evaluation"))
    source = SourceConfig(path=write(tmp_path / "photos", {f"{n}.jpg": photograph(n) for n in (2, 5, 6)}, quality=50))
    drop = DropDuplicates(distinct_from=(evaluation.uri,))
    collection = ingest_local(source, str(tmp_path / "c"), drop=drop)
    assert names(collection) == {"2.jpg"}
    write(tmp_path / "photos", {"7.jpg": photograph(5), "8.jpg": photograph(8), "9.jpg": photograph(8)}, quality=40)
    masks = collection.create_mask_set("other", config_hash="1", provenance={})
    before = collection.read_part("part-00000")
    grown = ingest_local(source, collection.uri, append=True, drop=drop)
    assert grown.read_part("part-00000") == before
    assert "7.jpg" in names(grown) and len(names(grown)) == 3 and {"8.jpg", "9.jpg"} & names(grown)
    assert not masks.finished_parts()
    again = ingest_local(
        SourceConfig(path=str(folder)), str(tmp_path / "again"), drop=DropDuplicates(distinct_from=(collection.uri,))
    )
    assert names(again) == {"2.png"} - names(collection) or names(again) == set()
    assert not list(find_problems(again))
