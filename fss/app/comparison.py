"""Mask sets of a collection side by side, page by page, for the check of labels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fss.collection import Collection, ImageReader, Sample, overview
from fss.collection.image_names import usable_photographs
from fss.collection.sources.base import BINARY_CLASS
from fss.core.arrays import IGNORE, Int64, Rgb
from fss.images.decode import resize_long_side
from fss.images.mask_codec import decode_mask
from fss.images.sheet_layout import Colour
from fss.visualize import FOREGROUND, IGNORED, class_colours, jpeg_bytes, overlay, tint_classes

SIDE = 400
"""Long side of a picture, in pixels."""
_BLANK = 235  # grey of a missing mask


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A photograph with the mask of one set."""

    jpeg: bytes
    """The photograph with the mask, JPEG."""
    entries: Sequence[tuple[Colour | None, str]]
    """Colour and words: the classes with their shares, the largest first, or what is said of a picture without one."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A photograph with the masks of all sets."""

    name: str
    """Path of the photograph relative to the source."""
    photograph: bytes
    """The photograph alone, JPEG."""
    cells: Sequence[Cell]
    """One for each mask set."""
    agreement: float | None
    """Share of the pixels marked in either of the first two sets that both give the same class, 0..1; None without two
    masks."""


class Comparison:
    """Two or three mask sets of a collection."""

    def __init__(self, collection: Collection, names: Sequence[str], *, most: int) -> None:
        """Open the mask sets.

        Args:
            collection: the collection.
            names: names of one or more mask sets.
            most: largest number of photographs, the first ones by name.

        Raises:
            ValueError: there is no such mask set.
        """
        self.sets = [collection.mask_set(name) for name in names]
        self._readers = [ImageReader(collection, mask_set) for mask_set in self.sets]
        photographs = sorted(usable_photographs(collection), key=lambda photograph: photograph.name)[:most]
        self._names = {photograph.image_id: photograph.name for photograph in photographs}
        self._order = list(self._names)
        pictures = [overview.summarize_masks(mask_set).pictures for mask_set in self.sets]
        self._class_names = [overview.class_names(*pair) for pair in zip(self.sets, pictures, strict=True)]
        self._objects = [_is_object(*pair) for pair in zip(pictures, self._class_names, strict=True)]
        self._many = [len(ids) > 1 for ids in pictures]
        self._colours = class_colours(sorted({*collection.classes, *(c for ids in pictures for c in ids)}))

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self._order)

    def rows(self, start: int, count: int) -> list[Row]:
        """Return photographs with their masks, in the present order."""
        return [self._row(image_id) for image_id in self._order[start : start + count]]

    def sort_by_name(self) -> None:
        """Order the photographs by name."""
        self._order = list(self._names)

    def sort_by_difference(self) -> None:
        """Put the photographs first on which the first two sets agree least; those without two masks come last."""
        rates = dict.fromkeys(self._names, 2.0)
        for part in sorted(set.intersection(*(mask_set.finished_parts() for mask_set in self.sets[:2]))):
            tables = [mask_set.read_part(part, ["image_id", "mask", "classes"]) for mask_set in self.sets[:2]]
            for rows in zip(*(table.to_pylist() for table in tables), strict=True):
                if rows[0]["image_id"] in rates and all(row["mask"] for row in rows):
                    maps = [self._map(decode_mask(row["mask"]), [c["id"] for c in row["classes"]]) for row in rows]
                    rates[rows[0]["image_id"]] = _agreement(maps)
        self._order = sorted(self._names, key=lambda image_id: rates[image_id])

    def _row(self, image_id: str) -> Row:
        samples = [reader.read(image_id) for reader in self._readers]
        rgb = samples[0].rgb
        maps = [self._map(sample.mask, sample.classes) for sample in samples[:2] if sample.mask is not None]
        return Row(
            name=self._names[image_id],
            photograph=jpeg_bytes(resize_long_side(rgb, SIDE)),
            cells=[self._cell(number, sample) for number, sample in enumerate(samples)],
            agreement=_agreement(maps) if len(maps) == 2 else None,
        )

    def _cell(self, number: int, sample: Sample) -> Cell:
        if sample.mask is None:
            blank = np.full_like(resize_long_side(sample.rgb, SIDE), _BLANK)
            return Cell(jpeg=jpeg_bytes(blank), entries=[(None, "no mask")])
        rgb = resize_long_side(sample.rgb, SIDE)
        mask = np.asarray(Image.fromarray(sample.mask).resize(rgb.shape[1::-1], Image.Resampling.NEAREST))
        pixels = np.bincount(sample.mask.ravel(), minlength=256) / sample.mask.size
        names = self._class_names[number]
        entries: list[tuple[Colour | None, str]] = []
        for value in sorted(range(1, 1 + len(sample.classes)), key=lambda value: -pixels[value]):
            if pixels[value]:
                class_id = sample.classes[value - 1]
                words = f"{names.get(class_id, f'class {class_id}')} {pixels[value]:.0%}"
                entries.append((self._colour(number, class_id), words))
        if pixels[IGNORE]:
            share = f"ignored {pixels[IGNORE]:.0%}"
            entries.append((None, f"{share} (hatched)") if self._many[number] else (IGNORED, share))
        return Cell(
            jpeg=jpeg_bytes(self._draw(number, rgb, mask, sample.classes)), entries=entries or [(None, "empty")]
        )

    def _draw(self, number: int, rgb: Rgb, mask: np.ndarray, classes: Sequence[int]) -> np.ndarray:
        if not self._many[number]:
            return overlay(rgb, np.where(mask == IGNORE, IGNORE, np.minimum(mask, 1)).astype(np.uint8))
        return tint_classes(rgb, mask, [self._colours[class_id] for class_id in classes])

    def _colour(self, number: int, class_id: int) -> Colour:
        return self._colours[class_id] if self._many[number] else FOREGROUND

    def _map(self, mask: np.ndarray, classes: Sequence[int]) -> Int64:
        """Return class ids, int64 [H,W]: 0 background, -1 ignored; all classes are one if a set knows objects only."""
        ids = [BINARY_CLASS] * len(classes) if any(self._objects[:2]) else list(classes)
        table = np.zeros(256, np.int64)
        table[1 : 1 + len(ids)], table[IGNORE] = ids, -1
        labels: Int64 = table[mask]
        return labels


def _is_object(class_ids: Iterable[int], names: Mapping[int, str]) -> bool:
    """Return whether the masks of a set show an object of no known class, as estimators draw it."""
    return {names.get(class_id) for class_id in class_ids} <= {"object"}


def _agreement(maps: Sequence[Int64]) -> float:
    """Return the share of the pixels marked in either of two class maps, ignored ones left out, that have one class."""
    first, second = maps
    marked = ((first > 0) | (second > 0)) & (first >= 0) & (second >= 0)
    return float((first == second)[marked].mean()) if marked.any() else 1.0
