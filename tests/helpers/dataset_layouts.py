"""Small trees in the exact layouts of the public benchmarks, filled with painted pictures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fss.collection.sources.cityscapes import TRAIN_ID_OF_LABEL
from fss.collection.sources.coco import CATEGORY_IDS, COCO_CLASSES
from fss.synthetic.picture import SampleImage, render_sample_image

PALETTE = [(37 * value) % 256 for value in range(768)]


def write_voc(
    root: Path,
    *,
    count: int,
    val: Sequence[int] = (),
    augmented: bool = True,
    seed: int = 0,
    spread: bool = False,
    even: bool = False,
) -> list[str]:
    """Write VOC 2012's tree and return the names; sample classes 1 to 16 stand for VOC's, 255 rings every object.

    With ``spread`` every other picture's classes stand for VOC's 5 to 20; with ``even`` all 20 are equally frequent.
    """
    names = [f"2007_{number:06d}" for number in range(count)]
    for number, name in enumerate(names):
        picture = render_sample_image(number, seed, "labelled")
        write_bytes(root / "JPEGImages" / f"{name}.jpg", picture.jpeg)
        mask = np.where(picture.mask > 0, picture.mask + 4 * (spread and number % 2), 0)
        mask = ringed(painted(picture, even_classes(number, picture, 20)) if even else mask)
        for folder in ("SegmentationClass", *(["SegmentationClassAug"] * augmented)):
            write_palette(root / folder / f"{name}.png", mask)
    lists = {"val": [names[i] for i in val], "train": [name for i, name in enumerate(names) if i not in val]}
    for subset, members in lists.items():
        write_bytes(root / "ImageSets" / "Segmentation" / f"{subset}.txt", "".join(f"{n}\n" for n in members).encode())
    return names


def write_sbd(root: Path, names: Sequence[str], *, seed: int = 0) -> None:
    """Write SBD's masks of pictures of ``write_voc``, by their numbers, as its download has them: no void rings."""
    from scipy.io import savemat

    for name in names:
        mask = render_sample_image(int(name.split("_")[1]), seed, "labelled").mask
        path = root / "benchmark_RELEASE" / "dataset" / "cls" / f"{name}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {"GTcls": {"Segmentation": mask, "CategoriesPresent": np.unique(mask[mask > 0])}})


def write_coco(
    root: Path,
    subset: str,
    *,
    count: int,
    rendered: bool,
    seed: int = 0,
    spread: bool = False,
    even: bool = False,
) -> list[str]:
    """Write COCO 2014's tree and return the names; sample class c is COCO's class c (category ``CATEGORY_IDS[c - 1]``).

    With ``spread`` it is one of five classes, by the picture's number; with ``even`` all 80 are equally frequent.
    """
    from pycocotools import mask as coco_mask

    content: dict[str, list[Any]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": n} for i, n in zip(CATEGORY_IDS, COCO_CLASSES, strict=True)],
    }
    names = [f"COCO_{subset}_{number:012d}" for number in range(1, count + 1)]
    for number, name in enumerate(names):
        picture = render_sample_image(number, seed, "labelled")
        write_bytes(root / subset / f"{name}.jpg", picture.jpeg)
        class_of = {c: 5 * (c - 1) + number % 5 + 1 if spread else c for c in picture.classes}
        class_of = even_classes(number, picture, 80) if even else class_of
        if rendered:
            write_grey(root / "annotations" / subset / f"{name}.png", painted(picture, class_of))
            continue
        height, width = picture.mask.shape
        content["images"].append({"id": number, "file_name": f"{name}.jpg", "height": height, "width": width})
        for class_id in picture.classes:
            code = coco_mask.encode(np.asfortranarray(picture.mask == class_id))
            code["counts"] = code["counts"].decode()
            content["annotations"].append(
                {
                    "image_id": number,
                    "category_id": CATEGORY_IDS[class_of[class_id] - 1],
                    "iscrowd": 0,
                    "segmentation": code,
                }
            )
    if not rendered:
        write_bytes(root / "annotations" / f"instances_{subset}.json", json.dumps(content).encode())
    return names


def write_cityscapes(root: Path, subset: str, city: str, *, count: int, train_ids: bool, seed: int = 0) -> list[str]:
    """Write Cityscapes' tree and return the names; background is road, sample class c is train id c."""
    label_of = {train_id: label for label, train_id in TRAIN_ID_OF_LABEL.items()}
    names = [f"{city}_{number:06d}_000019" for number in range(count)]
    for number, name in enumerate(names):
        picture = render_sample_image(number, seed, "labelled")
        image = root / "leftImg8bit" / subset / city / f"{name}_leftImg8bit.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        decoded(picture).save(image)
        values = picture.mask.copy()
        if not train_ids:
            values = np.vectorize(lambda train_id: label_of[train_id])(values).astype(np.uint8)
        values[0, 0] = 255 if train_ids else 3  # void: label 3 is "out of roi"
        kind = "labelTrainIds" if train_ids else "labelIds"
        write_grey(root / "gtFine" / subset / city / f"{name}_gtFine_{kind}.png", values)
    return names


def write_fss1000(root: Path, names: Sequence[str], *, images: int = 10, seed: int = 0) -> None:
    """Write FSS-1000's tree: class number n shows one object of a sample class, with its binary mask."""
    number = 0
    for name in names:
        for place in range(1, images + 1):
            picture = render_sample_image(number, seed, "unlabelled")
            while not picture.classes:
                number += 1
                picture = render_sample_image(number, seed, "unlabelled")
            number += 1
            write_bytes(root / name / f"{place}.jpg", picture.jpeg)
            write_grey(root / name / f"{place}.png", (picture.mask > 0).astype(np.uint8) * 255)


def even_classes(number: int, picture: SampleImage, count: int) -> dict[int, int]:
    """Return one of ``count`` classes for each class of the picture of a number, so that all are equally frequent."""
    return {c: (number + 7 * place) % count + 1 for place, c in enumerate(sorted(picture.classes))}


def painted(picture: SampleImage, class_of: dict[int, int]) -> np.ndarray:
    """Return the mask of a picture with other classes."""
    mask = np.zeros_like(picture.mask)
    for c, class_id in class_of.items():
        mask[picture.mask == c] = class_id
    return mask


def ringed(mask: np.ndarray) -> np.ndarray:
    """Return the mask with a ring of void around every object, as VOC has it."""
    padded = np.pad(mask, 1, mode="edge")
    height, width = mask.shape
    windows = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    edge = np.maximum.reduce(windows) != np.minimum.reduce(windows)
    return np.where(edge, 255, mask).astype(np.uint8)


def decoded(picture: SampleImage) -> Image.Image:
    """Decode a sample picture."""
    import io

    return Image.open(io.BytesIO(picture.jpeg)).convert("RGB")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_grey(path: Path, values: np.ndarray) -> None:
    """Write an 8-bit grey PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def write_palette(path: Path, values: np.ndarray, colors: Sequence[int] = PALETTE) -> None:
    """Write a palette PNG, as VOC's masks are; ``colors`` are red, green and blue of 0, 1, 2, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8), mode="P")
    image.putpalette(list(colors))
    image.save(path)


def write_rgb(path: Path, values: np.ndarray, colors: Sequence[Sequence[int]]) -> None:
    """Write an RGB PNG with one colour per value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(colors, np.uint8)[values]).save(path)
