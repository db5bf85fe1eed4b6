"""Class-wise relabelling from a few labelled shots, behind a gate: is the class in the picture at all?

Few-shot segmenters are trained with the class always present, so they find one everywhere. A class is asked for only
where some cell of the picture looks enough like its shots; how much is enough is learned from labelled pictures that
are no shots.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fss.collection import ImageReader, MaskSet
from fss.core.arrays import UInt8
from fss.core.rng import keyed_rng
from fss.images.resize import image_canvas, mask_canvas
from fss.models.segmenter import FewShotSegmenter
from fss.relabel.config import RelabelConfig
from fss.relabel.features import deepest_map, pooled_features
from fss.relabel.supports import Shot, SupportSets, deal
from fss.relabel.views import View, network_input

BATCH = 16
CALIBRATION = 8  # pictures of each class that calibrate the gate


class ClassBank:
    """Shots of classes, a prototype of each, and the likeness from which on a class counts as present."""

    def __init__(self, prototypes: Tensor, threshold: float, sets: Mapping[int, SupportSets]):
        """Keep what :func:`build_bank` found.

        Args:
            prototypes: [C,D], of length 1, in the order of the class ids.
            threshold: least cosine.
            sets: support sets by class id; supports are named as :func:`shot_name` does.
        """
        self.prototypes, self.threshold, self.sets = prototypes, threshold, dict(sets)

    def present(self, segmenter: FewShotSegmenter, canvases: UInt8) -> list[list[int]]:
        """Return the ids of the classes that each of some pictures, uint8 [B,S,S,3], may show."""
        likeness = self.similarity(segmenter, canvases)
        ids = sorted(self.sets)
        return [[c for c, value in zip(ids, row, strict=True) if value >= self.threshold] for row in likeness.tolist()]

    @torch.inference_mode()
    def similarity(self, segmenter: FewShotSegmenter, canvases: UInt8) -> Tensor:
        """Return the largest cosine of any cell of a picture with each prototype, [B,C] on the CPU."""
        device = next(segmenter.parameters()).device
        cells = deepest_map(segmenter, network_input(torch.from_numpy(canvases).to(device), View()))
        cosines = torch.einsum("bdhw,cd->bchw", torch.nn.functional.normalize(cells, dim=1), self.prototypes.to(device))
        return cosines.amax((2, 3)).float().cpu()


def shot_name(class_id: int, image_id: str) -> str:
    """Return the name of a shot: a picture may show several classes."""
    return f"{class_id}:{image_id}"


def bank_reader(masks: MaskSet, size: int) -> Callable[[str], Shot]:
    """Return what reads a shot of labelled pictures by its name, ``size`` pixels a side."""
    reader = ImageReader(masks.collection, masks)

    def read(name: str) -> Shot:
        class_id, image_id = name.split(":")
        rgb, mask = reader.read_binary(image_id, int(class_id))
        return Shot(image_canvas(rgb, size), (mask_canvas(mask, size) == 1).astype(np.uint8))

    return read


def build_bank(
    segmenter: FewShotSegmenter,
    pictures: Mapping[int, Sequence[str]],
    read: Callable[[str], Shot],
    config: RelabelConfig,
) -> ClassBank:
    """Draw the shots of every class and learn the threshold of the gate from other pictures of the classes.

    Args:
        segmenter: whose backbone looks.
        pictures: class id to the ids of the labelled pictures that show the class.
        read: gives a shot by its name (:func:`shot_name`).
        config: shots, sets and seed.

    Raises:
        ValueError: no class, or a class with too few pictures.
    """
    wanted = config.shots * config.sets
    short = [f"{c} has {len(ids)}" for c, ids in pictures.items() if len(ids) <= wanted]
    if short or not pictures:
        raise ValueError(
            f"every class of a bank needs {wanted + 1} labelled pictures, {wanted} shots and one to set the gate; "
            f"{'class ' + ', class '.join(short) if short else 'no class was given'}"
        )
    drawn = {c: _drawn(c, pictures[c], config.seed) for c in sorted(pictures)}
    prototypes = torch.cat([_prototype(segmenter, c, ids[:wanted], read) for c, ids in drawn.items()])
    sets = {c: deal([shot_name(c, name) for name in ids[:wanted]], config) for c, ids in drawn.items()}
    bank = ClassBank(prototypes, -1.0, sets)
    held_out = [(c, name) for c, ids in drawn.items() for name in ids[wanted : wanted + CALIBRATION]]
    there: list[float] = []
    absent: list[float] = []
    for start in range(0, len(held_out), BATCH):
        chosen = held_out[start : start + BATCH]
        canvases = np.stack([read(shot_name(c, name)).rgb for c, name in chosen])
        for (_, name), row in zip(chosen, bank.similarity(segmenter, canvases).tolist(), strict=True):
            for c, value in zip(drawn, row, strict=True):
                (there if name in pictures[c] else absent).append(value)
    bank.threshold = best_threshold(there, absent)
    return bank


def best_threshold(there: Sequence[float], absent: Sequence[float]) -> float:
    """Return the threshold with the best balanced accuracy: values of ``there`` lie above it, of ``absent`` below.

    Without ``absent`` values it is the least of ``there``.
    """
    if not absent:
        return min(there)
    values = np.unique([*there, *absent])
    cuts = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2])
    hits = (np.array(there)[None] >= cuts[:, None]).mean(1)
    refusals = (np.array(absent)[None] < cuts[:, None]).mean(1)
    return float(cuts[int((hits + refusals).argmax())])


def _drawn(class_id: int, ids: Sequence[str], seed: int) -> list[str]:
    ordered = sorted(ids)
    order = keyed_rng(seed, item=class_id, purpose="relabel.shots").permutation(len(ordered))
    return [ordered[place] for place in order]


def _prototype(segmenter: FewShotSegmenter, class_id: int, ids: Sequence[str], read: Callable[[str], Shot]) -> Tensor:
    device = next(segmenter.parameters()).device
    shots = [read(shot_name(class_id, name)) for name in ids]
    images = network_input(torch.from_numpy(np.stack([shot.rgb for shot in shots])).to(device), View())
    masks = torch.from_numpy(np.stack([shot.mask for shot in shots])).to(device)
    return torch.nn.functional.normalize(pooled_features(segmenter, images, masks).mean(0, keepdim=True), dim=1).cpu()
