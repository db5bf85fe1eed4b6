"""Class-wise relabelling from a few labelled shots, with a presence gate for every class.

Few-shot segmenters are trained on episodes that always contain the class, so they predict it everywhere. A class is
therefore segmented only in images where some cell of the feature map is similar enough to its shots. The threshold is
calibrated on labelled images that are not shots.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fss.collection import ImageReader, MaskSet
from fss.core.arrays import Mask, UInt8
from fss.core.rng import keyed_rng
from fss.episodes.episode_plan import small_classes
from fss.images.resize import image_canvas, mask_canvas
from fss.models.segmenter import FewShotSegmenter
from fss.relabel.config import RelabelConfig
from fss.relabel.features import deepest_map, pooled_features
from fss.relabel.supports import Shot, SupportSets, deal
from fss.relabel.views import View, network_input

BATCH = 16
CALIBRATION = 8  # labelled images of each class that calibrate the gate


class ClassBank:
    """Support shots and a prototype of each class, and the similarity above which a class counts as present."""

    def __init__(self, prototypes: Tensor, threshold: float, sets: Mapping[int, SupportSets]):
        """Store the result of :func:`build_bank`.

        Args:
            prototypes: vectors of length 1, [C,D], sorted by class id.
            threshold: least cosine of a class that is present.
            sets: support sets by class id; a support is named by :func:`shot_name`.
        """
        self.prototypes, self.threshold, self.sets = prototypes, threshold, dict(sets)

    def present(self, segmenter: FewShotSegmenter, canvases: UInt8) -> list[list[int]]:
        """Return the ids of the classes that may be present in each image, for canvases uint8 [B,S,S,3]."""
        similarity = self.similarity(segmenter, canvases)
        ids = sorted(self.sets)
        return [
            [c for c, value in zip(ids, row, strict=True) if value >= self.threshold] for row in similarity.tolist()
        ]

    @torch.inference_mode()
    def similarity(self, segmenter: FewShotSegmenter, canvases: UInt8) -> Tensor:
        """Return the largest cosine between the cells of each image and each prototype, [B,C] on the CPU."""
        device = next(segmenter.parameters()).device
        cells = deepest_map(segmenter, network_input(torch.from_numpy(canvases).to(device), View()))
        cosines = torch.einsum("bdhw,cd->bchw", torch.nn.functional.normalize(cells, dim=1), self.prototypes.to(device))
        return cosines.amax((2, 3)).float().cpu()


def shot_name(class_id: int, image_id: str) -> str:
    """Return the name of a shot; it contains the class because an image may show several."""
    return f"{class_id}:{image_id}"


def parse_shot_name(name: str) -> tuple[int, str]:
    """Return the class id and the image id of the name of a shot."""
    class_id, image_id = name.split(":")
    return int(class_id), image_id


def bank_reader(masks: MaskSet, size: int) -> Callable[[str], Shot]:
    """Return a function from the name of a shot (:func:`shot_name`) to the shot of ``size`` pixels a side."""
    reader = ImageReader(masks.collection, masks)

    def read(name: str) -> Shot:
        class_id, image_id = parse_shot_name(name)
        rgb, mask = reader.read_binary(image_id, class_id)
        return Shot(image_canvas(rgb, size), shot_mask(mask, size))

    return read


def shot_mask(mask: Mask, size: int) -> UInt8:
    """Return the mask of a shot, uint8 [size,size] in {0,1}, from the mask of its class, uint8 [H,W] in {0,1,255}."""
    return np.asarray(mask_canvas(mask, size) == 1, np.uint8)


def drawn_shots(image_ids: Mapping[int, Collection[str]], config: RelabelConfig) -> list[str]:
    """Return the names of all shots that :func:`build_bank` reads."""
    return [shot_name(c, image_id) for c, ids in _drawn_images(image_ids, config).items() for image_id in ids]


def build_bank(
    segmenter: FewShotSegmenter,
    image_ids: Mapping[int, Collection[str]],
    read: Callable[[str], Shot],
    config: RelabelConfig,
) -> ClassBank:
    """Draw the shots of every class and calibrate the presence gate on other images of the classes.

    Args:
        segmenter: the segmenter whose backbone encodes the shots.
        image_ids: for each class id, the ids of the labelled images that show the class.
        read: returns a shot by its name (:func:`shot_name`).
        config: number of shots and support sets, and the seed.

    Raises:
        ValueError: there is no class, or a class has too few images.
    """
    needed = config.shots * config.sets
    short = small_classes({c: len(ids) for c, ids in image_ids.items()}, needed)
    if short or not image_ids:
        raise ValueError(
            f"every class of a bank needs {needed + 1} labelled images, {needed} shots and one to calibrate the gate; "
            f"{short or 'no class was given'}"
        )
    drawn = _drawn_images(image_ids, config)
    prototypes = torch.cat([_prototype(segmenter, c, ids[:needed], read) for c, ids in drawn.items()])
    sets = {c: deal([shot_name(c, image_id) for image_id in ids[:needed]], config) for c, ids in drawn.items()}
    bank = ClassBank(prototypes, -1.0, sets)
    held_out = [(c, image_id) for c, ids in drawn.items() for image_id in ids[needed:]]
    present: list[float] = []
    absent: list[float] = []
    for start in range(0, len(held_out), BATCH):
        batch = held_out[start : start + BATCH]
        canvases = np.stack([read(shot_name(c, image_id)).rgb for c, image_id in batch])
        for (_, image_id), row in zip(batch, bank.similarity(segmenter, canvases).tolist(), strict=True):
            for c, value in zip(drawn, row, strict=True):
                (present if image_id in image_ids[c] else absent).append(value)
    bank.threshold = best_threshold(present, absent)
    return bank


def best_threshold(present: Sequence[float], absent: Sequence[float]) -> float:
    """Return the threshold with the best balanced accuracy: ``present`` values are at or above it, ``absent`` below.

    Without ``absent`` values it is the smallest of ``present``.
    """
    if not absent:
        return min(present)
    values = np.unique([*present, *absent])
    thresholds = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2])
    sensitivity = (np.array(present)[None] >= thresholds[:, None]).mean(1)
    specificity = (np.array(absent)[None] < thresholds[:, None]).mean(1)
    return float(thresholds[int((sensitivity + specificity).argmax())])


def _drawn_images(image_ids: Mapping[int, Collection[str]], config: RelabelConfig) -> dict[int, list[str]]:
    """Return for each class id the image ids of its shots, and then of the images that calibrate the gate."""
    count = config.shots * config.sets + CALIBRATION
    drawn = {}
    for class_id in sorted(image_ids):
        ordered = sorted(image_ids[class_id])
        order = keyed_rng(config.seed, item=class_id, purpose="relabel.shots").permutation(len(ordered))
        drawn[class_id] = [ordered[index] for index in order[:count]]
    return drawn


def _prototype(segmenter: FewShotSegmenter, class_id: int, ids: Sequence[str], read: Callable[[str], Shot]) -> Tensor:
    device = next(segmenter.parameters()).device
    shots = [read(shot_name(class_id, image_id)) for image_id in ids]
    images = network_input(torch.from_numpy(np.stack([shot.rgb for shot in shots])).to(device), View())
    masks = torch.from_numpy(np.stack([shot.mask for shot in shots])).to(device)
    return torch.nn.functional.normalize(pooled_features(segmenter, images, masks).mean(0, keepdim=True), dim=1).cpu()
