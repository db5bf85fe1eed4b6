"""Folders of photographs, with and without masks, as listings."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fss.collection.sources import SourceConfig, SourceItem, list_items, read_item
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import binary_mask
from tests.helpers.bad_files.formats import encoded

LIMITS = DecodeLimits()
PNG = encoded("PNG")


def put(root: Path, *names: str, data: bytes = PNG) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def grey(values: np.ndarray) -> bytes:
    return encoded("PNG", Image.fromarray(values.astype(np.uint8)))


def paths(config: SourceConfig) -> list[str]:
    return [item.relative_path for item in list_items(config).items]


def test_photographs_at_any_depth_in_one_order(tmp_path: Path) -> None:
    put(tmp_path, "b.jpg", "a/z.PNG", "a/b/c.webp", "a.b/x.tiff", "d.jpeg", "e.gif", "f.bmp", "ü.jpg", "phone.heic")
    put(tmp_path, "readme.txt", "movie.mp4", "raw.dng", ".hidden.jpg", ".git/x.jpg", "__MACOSX/a.jpg", "plain")
    listing = list_items(SourceConfig(path=str(tmp_path)))
    assert [item.relative_path for item in listing.items] == sorted(
        ["b.jpg", "a/z.PNG", "a/b/c.webp", "a.b/x.tiff", "d.jpeg", "e.gif", "f.bmp", "ü.jpg", "phone.heic"]
    )
    assert listing.ignored == {"hidden files": 3, "other files": 3, "pictures of other formats": 1}
    assert not listing.labelled


def test_files_that_may_hold_outlines_are_told(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg")
    assert not list_items(SourceConfig(path=str(tmp_path))).notes
    put(tmp_path, "annotations/instances.json")
    (note,) = list_items(SourceConfig(path=str(tmp_path))).notes
    assert "without masks; if JSON files such as annotations/instances.json hold" in note
    assert "--source.kind coco" in note
    assert not list_items(SourceConfig(path=str(tmp_path), masks="none")).notes


def test_links_and_pipes(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    put(root, "good.jpg", "sub/also.jpg")
    put(tmp_path, "secret.jpg", "elsewhere/private.jpg")
    (root / "inside.jpg").symlink_to(root / "good.jpg")
    (root / "outside.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    (root / "dangling.jpg").symlink_to(root / "nothing.jpg")
    (root / "itself.jpg").symlink_to(root / "itself.jpg")
    os.mkfifo(root / "pipe.jpg")
    listing = list_items(SourceConfig(path=str(root)))
    assert [item.relative_path for item in listing.items] == ["good.jpg", "inside.jpg", "sub/also.jpg"]
    assert listing.ignored == {
        "links out of the folder": 1,
        "linked folders": 2,
        "links without a target": 2,
        "no regular files": 1,
    }
    assert "3 links" in listing.notes[0]
    assert "--source.link-roots FOLDER" in listing.notes[0]
    assert "git annex get" in listing.notes[1]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "good.jpg", "closed/a.jpg")
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_items(SourceConfig(path=str(tmp_path)))
    assert [item.relative_path for item in listing.items] == ["good.jpg"]
    assert listing.ignored == {"folders that cannot be read": 1}
    assert listing.notes == (
        f"1 folders below {tmp_path} cannot be read, so their files were left out; change their permissions",
    )


def test_links_are_followed_into_the_named_folders(tmp_path: Path) -> None:
    root, cache, other = tmp_path / "photos", tmp_path / "cache", tmp_path / "other"
    put(cache, "1f/9a.jpg", "set/c.jpg", "set/deep/d.jpg")
    put(other, "e.jpg")
    root.mkdir()
    (root / "a.jpg").symlink_to(cache / "1f/9a.jpg")
    (root / "b.jpg").symlink_to(other / "e.jpg")
    (root / "set").symlink_to(cache / "set")
    (root / "others").symlink_to(other)
    (cache / "set/loop").symlink_to(cache / "set")
    (cache / "set/up").symlink_to(root)
    (cache / "set/chain.jpg").symlink_to(root / "b.jpg")
    assert paths(SourceConfig(path=str(root), link_roots=(str(cache),))) == ["a.jpg", "set/c.jpg", "set/deep/d.jpg"]
    both = SourceConfig(path=str(root), link_roots=(str(cache), str(other)))
    every = ["a.jpg", "b.jpg", "others/e.jpg", "set/c.jpg", "set/chain.jpg", "set/deep/d.jpg"]
    assert paths(both) == every
    listing = list_items(both)
    assert listing.ignored == {"linked folders": 2}
    assert read_item(listing.items[-2], both, LIMITS).data == PNG
    assert both.identity() == SourceConfig(path=str(root)).identity()  # more links are more photographs, no others
    with pytest.raises(ValueError, match=r"4 links of .* --source.link-roots FOLDER"):
        list_items(SourceConfig(path=str(root)))
    with pytest.raises(ValueError, match=r"--source.link-roots names .*nowhere, but there is no such folder"):
        list_items(SourceConfig(path=str(root), link_roots=(str(tmp_path / "nowhere"),)))


def test_files_of_dvc_without_their_data(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "a.jpg.dvc", "b.jpg.dvc")
    listing = list_items(SourceConfig(path=str(tmp_path)))
    assert listing.ignored == {"DVC files without their data": 1, "other files": 1}
    assert "dvc pull" in listing.notes[0]


def test_a_name_that_is_no_unicode_is_read(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(PNG)
    config = SourceConfig(path=str(tmp_path))
    [item] = list_items(config).items
    assert read_item(item, config, LIMITS).data == PNG
    assert list_items(config).hash() == list_items(config).hash()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a path"):
        list_items(SourceConfig())
    with pytest.raises(ValueError, match="there is no folder"):
        list_items(SourceConfig(path=str(tmp_path / "nowhere")))
    put(tmp_path, "a.txt")
    with pytest.raises(ValueError, match=r"no photographs .*1 other files"):
        list_items(SourceConfig(path=str(tmp_path)))
    with pytest.raises(ValueError, match=r"masks=binary needs masks, but .* has no folders images/ and masks/"):
        list_items(SourceConfig(path=str(tmp_path), masks="binary"))
    with pytest.raises(ValueError, match="cannot open 'ftp:"):
        list_items(SourceConfig(path="ftp://host/photos"))


def test_images_beside_masks(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "images/sub/b.png", "images/c.png")
    put(tmp_path, "masks/a.png", "masks/sub/b.png", "masks/d.png", data=grey(np.zeros((40, 48))))
    config = SourceConfig(path=str(tmp_path))
    listing = list_items(config)
    assert [bool(item.mask_uri) for item in listing.items] == [True, False, True]
    assert listing.classes == {1: "object"}
    assert listing.ignored == {"masks without a photograph": 1}
    assert (read_item(listing.items[1], config, LIMITS).mask_error or "").startswith("missing-mask")
    unlabelled = list_items(SourceConfig(path=str(tmp_path), masks="none"))
    assert not unlabelled.labelled
    assert len(unlabelled.items) == 3


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 1), (3, 250), (127, 128)])
def test_binary_masks(tmp_path: Path, low: int, high: int) -> None:
    values = np.full((40, 48), low)
    values[:10] = high
    put(tmp_path, "images/a.png")
    put(tmp_path, "masks/a.png", data=grey(values))
    config = SourceConfig(path=str(tmp_path))
    raw = read_item(list_items(config).items[0], config, LIMITS)
    assert raw.label is not None
    assert raw.label.class_ids == (1,)
    np.testing.assert_array_equal(raw.label.mask, values == high)


def test_class_indices_are_not_taken_for_a_binary_mask(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png")
    put(tmp_path, "masks/a.png", data=grey(np.arange(40 * 48).reshape(40, 48) % 12))
    config = SourceConfig(path=str(tmp_path))
    raw = read_item(list_items(config).items[0], config, LIMITS)
    assert raw.label is None
    assert (raw.mask_error or "").startswith(
        "class-ids: the values are 0, 1, 2, 3, 4, 5, ...; give --source.masks index"
    )


def test_index_masks(tmp_path: Path) -> None:
    values = np.arange(40 * 48).reshape(40, 48) % 13
    put(tmp_path, "images/a.png")
    put(tmp_path, "masks/a.png", data=grey(values))
    config = SourceConfig(path=str(tmp_path), masks="index", void=(11, 12), class_names=("sky", "car"))
    listing = list_items(config)
    raw = read_item(listing.items[0], config, LIMITS)
    assert raw.label is not None
    assert raw.label.class_ids == tuple(range(1, 11))
    np.testing.assert_array_equal(
        binary_mask(raw.label.mask, raw.label.class_ids, 4), np.where(values >= 11, 255, values == 4)
    )
    assert listing.classes[1] == "car"
    raw = read_item(listing.items[0], SourceConfig(masks="index", background=None, void=(11, 12)), LIMITS)
    assert raw.label.class_ids == tuple(range(11))


def test_what_cannot_be_read_is_told_in_the_item(tmp_path: Path) -> None:
    raw = read_item(SourceItem(relative_path="a.jpg", uri=str(tmp_path / "a.jpg")), SourceConfig(), LIMITS)
    assert raw.data is None
    assert raw.error == "unreadable: No such file or directory"
    put(tmp_path, "images/a.png", "masks/a.png")
    Path(tmp_path, "masks/a.png").write_bytes(PNG[:200])
    config = SourceConfig(path=str(tmp_path))
    raw = read_item(list_items(config).items[0], config, LIMITS)
    assert raw.data == PNG
    assert (raw.mask_error or "").startswith("truncated")


def fss(root: Path) -> SourceConfig:
    for name in ("wolf", "apple", "bus"):
        put(root, *(f"{name}/{number}.jpg" for number in range(1, 4)), data=encoded("JPEG"))
        put(root, *(f"{name}/{number}.png" for number in range(1, 4)), data=grey(np.eye(40, 48) * 255))
    return SourceConfig(kind="fss1000", path=str(root))


def test_fss1000_layout(tmp_path: Path) -> None:
    config = fss(tmp_path)
    (tmp_path / "bus/3.png").unlink()
    put(tmp_path, "bus/9.png", "stray.jpg", "bus/deeper/1.jpg")
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["wolf", "apple"], "test": ["bus"]}))
    listing = list_items(config)
    assert listing.classes == {1: "apple", 2: "bus", 3: "wolf"}
    assert listing.class_splits == {"train": [1, 3], "test": [2]}
    assert [item.relative_path for item in listing.items][:4] == [
        "apple/1.jpg",
        "apple/2.jpg",
        "apple/3.jpg",
        "bus/1.jpg",
    ]
    assert listing.ignored == {"masks without a photograph": 1, "other files": 2}
    assert listing.items[5].mask_uri is None
    raw = read_item(listing.items[-1], config, LIMITS)
    assert raw.label.class_ids == (3,)
    assert raw.label is not None
    assert raw.label.mask.sum() == 40


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ('{"train": ["cat"]}', "'cat', which has no folder"),
        ('{"train": ["bus"], "test": ["bus"]}', "in the splits 'train' and 'test'"),
        ('["bus"]', "must hold"),
        ("{", "cannot be read"),
    ],
)
def test_wrong_splits_are_refused(tmp_path: Path, splits: str, message: str) -> None:
    config = fss(tmp_path)
    (tmp_path / "splits.json").write_text(splits)
    with pytest.raises(ValueError, match=message):
        list_items(config)


def test_splits_may_lie_elsewhere(tmp_path: Path) -> None:
    config = fss(tmp_path / "data")
    (tmp_path / "other.json").write_text('{"val": ["bus"]}')
    named = SourceConfig(kind="fss1000", path=config.path, splits=str(tmp_path / "other.json"))
    assert list_items(named).class_splits == {"val": [2]}
    with pytest.raises(ValueError, match="cannot be read"):
        list_items(SourceConfig(kind="fss1000", path=config.path, splits=str(tmp_path / "none.json")))


def test_the_order_does_not_depend_on_the_disk(tmp_path: Path) -> None:
    names = [f"{letter}{number}.jpg" for letter in "bca" for number in (10, 9, 1)]
    put(tmp_path / "one", *names)
    put(tmp_path / "two", *reversed(names))
    assert paths(SourceConfig(path=str(tmp_path / "one"))) == paths(SourceConfig(path=str(tmp_path / "two")))
    assert paths(SourceConfig(path=str(tmp_path / "one"))) == sorted(names)
