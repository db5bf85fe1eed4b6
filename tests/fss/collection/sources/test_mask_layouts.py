"""Folders in which masks lie as people keep them: taken as masks, or refused with the settings that would be right."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fss.collection.config import SourceConfig
from fss.collection.sources import Listing, list_items, read_item
from fss.images.limits import DecodeLimits
from tests.helpers.bad_files.formats import encoded

Y, X = np.mgrid[:40, :48]
MASK = Image.fromarray((((X - 20) ** 2 + (Y - 20) ** 2 <= 81) * 255).astype(np.uint8))
PHOTOGRAPH = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8))


def put(root: Path, *names: str) -> Path:
    """Write masks under names that end with .png or .gif, and photographs under others."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        is_mask = path.suffix in (".png", ".gif")
        path.write_bytes(encoded("PNG", MASK) if is_mask else encoded("JPEG", PHOTOGRAPH))
    return root


def listed(root: Path, **settings: object) -> Listing:
    return list_items(SourceConfig(path=str(root), **settings))


def pairs(listing: Listing, root: Path) -> dict[str, str | None]:
    """Return the relative path of the mask of every photograph."""
    return {
        item.relative_path: item.mask_uri and Path(item.mask_uri).relative_to(root).as_posix() for item in listing.items
    }


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        *(("Images/1.jpg", "Masks/1.png"), ("image/1.jpg", "mask/1.png"), ("imgs/1.jpg", "masks/1.png")),
        *(("images/1.jpg", "labels/1.png"), ("img/1.jpg", "gt/1.png"), ("JPEGImages/1.jpg", "SegmentationClass/1.png")),
        *(("train/images/1.jpg", "train/masks/1.png"), ("images/train/1.jpg", "annotations/train/1.png")),
        *(("train/1.jpg", "train_masks/1_mask.gif"), ("train/1.jpg", "trainannot/1.png"), ("1.jpg", "masks/1.png")),
        *(("data/imgs/x/1.jpg", "data/ground_truth/x/1.png"), ("train_images/1.jpg", "train_labels/1.png")),
        *(("images/1.jpg", "images/masks/1.png"), ("a/1.jpg", "a/1_mask.png"), ("a/1.jpg", "a/1-seg.png")),
        *(("1.jpg", "mask_1.png"), ("images/A.jpg", "masks/a.png"), ("images/a (1).jpg", "masks/a (1)_mask.png")),
        *(("images/1.jpg", "masks/1.jpg.png"), ("images/IMG_1.JPG", "masks/img_1_MASK.png")),
        *(("images/image_1.png", "masks/mask_1.png"), ("a/1_sat.jpg", "a/1_mask.png"), ("img1.png", "label1.png")),
        (unicodedata.normalize("NFC", "images/é.jpg"), unicodedata.normalize("NFD", "masks/é.png")),
    ],
)
def test_usual_names_are_paired(tmp_path: Path, image: str, mask: str) -> None:
    expected = {name.replace("1", number): mask.replace("1", number) for number in "12" for name in [image]}
    put(tmp_path, *expected, *expected.values())
    listing = listed(tmp_path)
    assert listing.labelled and pairs(listing, tmp_path) == expected
    standard = image.startswith("images/") and mask.startswith("masks/")
    assert bool(listing.notes) != standard
    [raw] = [read_item(item, SourceConfig(), DecodeLimits()) for item in listing.items if item.relative_path == image]
    assert raw.label is not None and int(raw.label.mask.sum()) == 253


def test_photographs_of_a_labelled_folder_can_be_listed_without_masks(tmp_path: Path) -> None:
    put(tmp_path, "img/1.jpg", "gt/1.png")
    listing = listed(tmp_path, masks="none")
    assert not listing.labelled and [item.relative_path for item in listing.items] == ["img/1.jpg"]
    everything = listed(tmp_path, images=".")
    assert not everything.labelled and len(everything.items) == 2


@pytest.mark.parametrize(
    ("settings", "image", "mask"),
    [
        ({"images": "a", "mask_folder": "b"}, "a/x/1.jpg", "b/x/1.png"),
        ({"mask_folder": "b/"}, "1.jpg", "b/1.png"),
        ({"images": "./a", "mask_folder": "a/b"}, "a/1.jpg", "a/b/1.png"),
        ({"mask_suffix": "_L"}, "a/1.jpg", "a/1_L.png"),
        ({"mask_suffix": ".png"}, "a/1.jpg", "a/1.png"),
        ({"mask_suffix": "_m.png", "mask_folder": "b", "images": "a"}, "a/1.jpg", "b/1_m.png"),
    ],
)
def test_settings_say_where_masks_are(tmp_path: Path, settings: dict[str, str], image: str, mask: str) -> None:
    put(tmp_path, image, mask)
    listing = listed(tmp_path, **settings)
    assert pairs(listing, tmp_path) == {image: mask} and not listing.notes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_folder": "c"}, "--source.mask-folder is 'c', where no pictures are; the folders are a, b"),
        ({"images": "c", "mask_folder": "b"}, "--source.images is 'c'"),
        ({"mask_suffix": "_x"}, "no picture below '.' has a name that ends with --source.mask-suffix '_x'"),
        ({"masks": "index"}, "masks=index needs masks, but .*give --source.images FOLDER --source.mask-folder"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    put(tmp_path, "a/1.jpg", "b/1.png")
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, **settings)


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (["a/1.jpg", "b/1.png"], "--source.images a --source.mask-folder b"),
        (["a/x/1.jpg", "b/x/9.png"], "--source.images FOLDER --source.mask-folder b/x"),
        (["1.jpg", "1.png"], "--source.mask-suffix .png"),
        (["cup/1.jpg", "cup/1.png", "mug/1.jpg", "mug/1.png"], "--source.kind fss1000"),
        (["b/1.png", "b/2.png"], "--source.images FOLDER --source.mask-folder b"),
        (["Original/1.jpg", "Ground Truth/1.png"], "--source.images Original --source.mask-folder 'Ground Truth'"),
        (["a/1.jpg", "a/1_m.png"], "--source.mask-suffix=_m"),
        (
            ["p/q/p.jpg", "p/masks/1.png", "q/q/q.jpg", "q/masks/1.png"],
            "--source.images FOLDER --source.mask-folder p/masks",
        ),
    ],
)
def test_masks_do_not_become_photographs(tmp_path: Path, names: list[str], settings: str) -> None:
    put(tmp_path, *names)
    with pytest.raises(ValueError, match=rf"look like masks; give {settings} to take .*--source.images \. to take all"):
        listed(tmp_path)
    assert len(listed(tmp_path, images=".").items) == len(names)


@pytest.mark.parametrize("names", ["im_{}.png ob_{}.png", "{}a.png {}b.png", "x{}0_im.png x{}0_ob.png"])
def test_masks_among_photographs_of_one_type_are_found(tmp_path: Path, names: str) -> None:
    photograph, mask = names.split()
    for number in range(8):
        (tmp_path / photograph.format(number)).write_bytes(encoded("PNG", PHOTOGRAPH))
    put(tmp_path, *(mask.format(number) for number in range(8)))
    with pytest.raises(ValueError, match=r"look like masks; give --source\.(images FOLDER|mask-suffix TEXT)"):
        listed(tmp_path)


def test_pictures_of_equal_names_in_a_lossless_format_are_refused(tmp_path: Path) -> None:
    put(tmp_path, *(f"rgb/{number}.jpg" for number in range(5)))
    (tmp_path / "depth").mkdir()
    for number in range(5):
        (tmp_path / f"depth/{number}.png").write_bytes(encoded("PNG", PHOTOGRAPH))
    with pytest.raises(ValueError, match=r"have the names of .*--source.images rgb --source.mask-folder depth"):
        listed(tmp_path)


def test_numbered_photographs_of_several_folders_are_photographs(tmp_path: Path) -> None:
    put(tmp_path, *(f"{folder}/{number}.jpg" for folder in ("cup", "mug") for number in range(6)))
    assert len(listed(tmp_path).items) == 12


@pytest.mark.parametrize(
    ("names", "reasons"),
    [
        (["images/10.jpg", "images/10.jpeg", "masks/10.png"], {"10.jpg": "shared-mask", "10.jpeg": "shared-mask"}),
        (["images/1.jpg", "masks/1.png", "masks/1.gif"], {"1.jpg": "several-masks"}),
        (["images/1.jpg", "masks/1.png", "images/A.jpg", "masks/a.png", "masks/A.gif"], {}),
    ],
)
def test_names_that_fit_twice_get_a_reason(tmp_path: Path, names: list[str], reasons: dict[str, str]) -> None:
    put(tmp_path, *names)
    listing = listed(tmp_path)
    errors = {Path(item.relative_path).name: item.mask_error.split(":")[0] for item in listing.items if item.mask_error}
    assert errors == reasons
    assert bool(listing.warnings) == bool(reasons)
    assert all(item.mask_uri is None for item in listing.items if item.mask_error)


def test_masks_of_two_photographs_get_a_reason_in_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "cup/10.jpg", "cup/10.jpeg", "cup/10.png", "cup/1.jpg", "cup/1.png", "cup/2.png")
    listing = listed(tmp_path, kind="fss1000")
    assert [bool(item.mask_error) for item in listing.items] == [False, True, True]
    assert listing.unmatched == ("cup/2.png",)
