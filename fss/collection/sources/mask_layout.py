"""Where the masks of a folder lie: in folders or beside the photographs, told by settings or by usual names.

``images/a.jpg`` and ``masks/a.png`` are a photograph and its mask. So are ``Images`` and ``GT``, ``train/img`` and
``train/labels``, ``train`` and ``train_masks``, and ``a.jpg`` and ``a_mask.png``.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from fss.collection.config import SourceConfig
from fss.collection.sources.names import normalized
from fss.collection.sources.walk import is_photograph, stem_and_suffix

IMAGES, MASKS = "images", "masks"
_WORDS = "masks?|labels?|annotations?|annots?|ground[_-]?truths?|segmentations?|segmentation[_-]masks?"
_MASK_FOLDER = re.compile(
    rf"(?:(.+)[_-])?(?:{_WORDS}|segmentationclass(?:aug)?|gts?|segs?|targets?|mattes?|alphas?)|(.+)(?:masks?|annots?)"
)
_IMAGE_FOLDER = re.compile(
    r"(?:(.+)[_-])?(?:images?|imgs?|photos?|photographs?|pictures?|pics?|jpegimages|rgb|inputs?)"
)
_MASK_NAME = re.compile(
    rf"(?:(?:{_WORDS}|gt|seg)(?:[_-]|(?=\d)))?(.+?)(?:[ _.-](?:{_WORDS}|gt|seg|matte|alpha))?", re.IGNORECASE
)
_IMAGE_WORDS = "images?|imgs?|photos?|pictures?|rgb|sat"
_IMAGE_NAME = re.compile(rf"(?:(?:{_IMAGE_WORDS})(?:[_-]|(?=\d)))?(.+?)(?:[ _.-](?:{_IMAGE_WORDS}))?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class MaskLayout:
    """Photographs and masks of a folder, with the keys that pair them."""

    photographs: Mapping[str, str]
    """Key by relative path of a photograph."""
    masks: Mapping[str, str]
    """Key by relative path of a mask."""
    note: str | None = None
    """What was concluded from usual names; None for settings and for ``images/`` beside ``masks/``."""


def find_layout(pictures: Iterable[str], config: SourceConfig) -> MaskLayout | None:
    """Return the masks of a folder by the settings, else by usual names; None if there are none.

    Args:
        pictures: relative paths of all pictures in the folder.
        config: settings of the source.

    Raises:
        ValueError: the settings name a folder or suffix that no picture has.
    """
    pictures = list(pictures)
    if config.images is not None or config.mask_folder is not None or config.mask_suffix is not None:
        return _declared(pictures, config)
    if all(any(_below(path, folder) for path in pictures) for folder in (IMAGES, MASKS)):
        photographs = {path: _key(path, IMAGES) for path in pictures if _below(path, IMAGES)}
        masks = {path: _key(path, MASKS) for path in pictures if _below(path, MASKS)}
        return _aligned(photographs, masks)
    return _usual(pictures, _key_of_mask_folder) or _usual(pictures, _key_of_mask_name)


def is_mask_name(name: str) -> bool:
    """Return whether a folder or column of this name usually contains masks."""
    return _MASK_FOLDER.fullmatch(name.casefold()) is not None


def is_image_name(name: str) -> bool:
    """Return whether a folder or column of this name usually contains photographs."""
    return _IMAGE_FOLDER.fullmatch(name.casefold()) is not None


def _declared(pictures: list[str], config: SourceConfig) -> MaskLayout:
    images, folder, suffix = _folder(config.images), _folder(config.mask_folder), config.mask_suffix
    for setting, name in (("images", images), ("mask-folder", folder)):
        if not any(_below(path, name) for path in pictures):
            present = ", ".join(sorted({path.rpartition("/")[0] or "." for path in pictures})[:8])
            raise ValueError(f"--source.{setting} is {name!r}, where no pictures are; the folders are {present}")
    if config.mask_folder is None and suffix is None:
        return MaskLayout(photographs={path: _key(path, images) for path in pictures if _below(path, images)}, masks={})
    beside = folder if config.mask_folder is not None else images
    masks = {
        path: _key(path, beside, suffix)
        for path in pictures
        if _below(path, beside) and (suffix is None or _has_suffix(path, suffix))
    }
    if not masks:
        raise ValueError(
            f"no picture below {beside or '.'!r} has a name that ends with --source.mask-suffix {suffix!r}"
        )
    photographs = {
        path: _key(path, images)
        for path in pictures
        if _below(path, images) and path not in masks and not (folder and folder != images and _below(path, folder))
    }
    layout = MaskLayout(photographs=photographs, masks=masks)
    return _aligned(photographs, masks) if suffix is None else layout


def _aligned(photographs: Mapping[str, str], masks: Mapping[str, str]) -> MaskLayout:
    """Return photographs and masks, with keys without usual words and second suffixes where only then two are equal.

    ``a_mask.png`` and ``a.jpg.png`` are masks of ``a.jpg``, and ``mask_1.png`` is that of ``image_1.png``.
    """
    owners = {key.casefold() for key in photographs.values()}
    masks = {path: key if key.casefold() in owners else _plain(key, _MASK_NAME) for path, key in masks.items()}
    free = {key.casefold() for key in masks.values()} - owners
    plain = {path: _plain(key, _IMAGE_NAME) for path, key in photographs.items()}
    photographs = {path: plain[path] if plain[path].casefold() in free else key for path, key in photographs.items()}
    return MaskLayout(photographs=photographs, masks=masks)


def _usual(pictures: list[str], key_of_mask: Callable[[str], str | None]) -> MaskLayout | None:
    """Return the layout if at least half of the pictures that are named like masks have a photograph."""
    masks = {path: key for path in pictures if (key := key_of_mask(path)) is not None}
    if not masks:
        return None
    photographs = {path: _unmark(path, _IMAGE_FOLDER) or _key(path) for path in pictures if path not in masks}
    layout = _aligned(photographs, masks)
    owners = set(layout.photographs.values())
    paired = [path for path, key in layout.masks.items() if key in owners]
    if not paired or 2 * len(paired) < len(masks):
        return None
    owner = next(path for path, key in layout.photographs.items() if key == layout.masks[paired[0]])
    note = (
        f"{len(masks)} pictures such as {paired[0]} are taken as masks of photographs such as {owner}, by their names; "
        "give --source.images . to take all pictures as photographs"
    )
    return replace(layout, note=note)


def _key_of_mask_folder(path: str) -> str | None:
    """Return ``train/a`` for ``train/masks/a.png``; None if no folder is named like a folder of masks."""
    key = _unmark(path, _MASK_FOLDER)
    return key and (_unmark(key, _IMAGE_FOLDER) or key)


def _key_of_mask_name(path: str) -> str | None:
    """Return ``train/a`` for ``train/a_mask.png``; None if the name is not that of a mask."""
    key = _key(path)
    stripped = _plain(key, _MASK_NAME)
    return stripped if stripped != key else None


def _plain(key: str, pattern: re.Pattern[str]) -> str:
    """Return a key without the words of a pattern and without the suffix of a photograph, as in ``a.jpg.png``."""
    folder, slash, name = key.rpartition("/")
    match = pattern.fullmatch(name)
    plain = f"{folder}{slash}{match[1]}" if match else key
    return stem_and_suffix(plain)[0] if is_photograph(plain) else plain


def _unmark(path: str, pattern: re.Pattern[str]) -> str | None:
    """Return the key of a path without its deepest folder that the pattern fits; None if it fits none."""
    *folders, name = _key(path).split("/")
    for position in reversed(range(len(folders))):
        if match := pattern.fullmatch(folders[position].casefold()):
            rest = next((group for group in match.groups() if group), None)
            return "/".join([*folders[:position], *([rest] if rest else []), *folders[position + 1 :], name])
    return None


def _key(path: str, folder: str = "", suffix: str | None = None) -> str:
    """Return a normalized path without folder and suffix: ``sub/a`` for ``masks/sub/a_mask.png``."""
    stem, _ = stem_and_suffix(path)
    if suffix is not None and stem.endswith(suffix):
        stem = stem.removesuffix(suffix)
    elif suffix is not None and path.lower().endswith(suffix.lower()):
        stem = path[: len(path) - len(suffix)]
    return normalized(stem.removeprefix(f"{folder}/" if folder else ""))


def _has_suffix(path: str, suffix: str) -> bool:
    stem, _ = stem_and_suffix(path)
    return (stem.endswith(suffix) and len(stem.rpartition("/")[2]) > len(suffix)) or path.lower().endswith(
        suffix.lower()
    )


def _below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def _folder(name: str | None) -> str:
    """Return a folder setting without leading and trailing marks; the whole source is an empty text."""
    cleaned = (name or "").replace("\\", "/").strip("/").removeprefix("./")
    return "" if cleaned == "." else cleaned
