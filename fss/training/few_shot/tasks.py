"""Make the task of one image: read, decode, cut, draw two views. Plain numpy, safe to call from several threads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from fss.collection import Collection, MaskSet
from fss.collection.part_io import read_image_bytes
from fss.core.arrays import Mask
from fss.core.rng import keyed_rng
from fss.episodes.augmentation import View, draw_view
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.episodes.distractors import Placement, draw_placement
from fss.episodes.episode import RawEpisodes
from fss.episodes.mask_split import draw_split, is_splittable
from fss.images.decode import decode_image
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import binary_mask, decode_mask
from fss.images.resize import image_canvas, mask_canvas


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """What decides a task beside its image."""

    size: int
    """Pixels a side of the canvases."""
    split: SplitConfig
    """How masks are cut."""
    augment: AugmentConfig
    """How views are drawn."""
    seed: int
    """Of every draw."""
    epoch: int
    """Pass over the images, another key of every draw."""


class Task(NamedTuple):
    """One episode of one image, before it is rendered."""

    image_id: str
    canvas: NDArray[np.uint8]
    support: Mask
    query: Mask
    support_view: View
    query_view: View
    distractor: Placement


def make_task(record: Mapping[str, Any], canvas: NDArray[np.uint8], settings: TaskSettings) -> Task:
    """Make the task of one image; equal keys give equal tasks.

    Args:
        record: the mask row: ``image_id``, ``mask``, ``classes``.
        canvas: the picture, uint8 [C, C, 3].
        settings: C and the rest.
    """
    image_id, size = record["image_id"], settings.size
    keys: dict[str, Any] = {"seed": settings.seed, "epoch": settings.epoch, "item": image_id}
    mask = _drawn_class(record, settings)
    halves = draw_split(mask, settings.split, **keys)
    small = {"support": mask_canvas(halves.support, size), "query": mask_canvas(halves.query, size)}
    height, width = mask.shape
    views = {
        role: draw_view(settings.augment, half, height=height, width=width, size=size, role=role, **keys)
        for role, half in small.items()
    }
    return Task(
        image_id=image_id,
        canvas=canvas,
        support=small["support"],
        query=small["query"],
        support_view=views["support"],
        query_view=views["query"],
        distractor=draw_placement(settings.split.distractor, **keys),
    )


def read_canvas(record: Mapping[str, Any], image_id: str, size: int, limits: DecodeLimits) -> NDArray[np.uint8]:
    """Decode the picture of an image row (``image``, ``uri``) to a canvas, uint8 [size, size, 3].

    Raises:
        ValueError: the picture could be decoded when it was ingested and cannot be any more.
    """
    try:
        data = read_image_bytes(record["image"], record["uri"], limits)
        return image_canvas(decode_image(data, limits), size)
    except (OSError, ValueError) as error:
        raise ValueError(f"image {image_id} ({record['uri']}) was usable and is not any more: {error}") from error


def read_part_tasks(
    collection: Collection, mask_set: MaskSet, part: str, rows: Sequence[int], settings: TaskSettings
) -> Iterator[Task]:
    """Yield the tasks of some rows of a part, in their order."""
    images, masks = read_images(collection, part), read_masks(mask_set, part)
    for row in rows:
        record = table_row(masks, row)
        canvas = read_canvas(table_row(images, row), record["image_id"], settings.size, collection.limits)
        yield make_task(record, canvas, settings)


def _drawn_class(record: Mapping[str, Any], settings: TaskSettings) -> Mask:
    """Return the mask of the row's class; of several classes that can be cut one is drawn."""
    mask = decode_mask(record["mask"])
    height, width = mask.shape
    large = [
        entry["id"] for entry in record["classes"] if is_splittable(entry["pixels"], height, width, settings.split)
    ]
    if not large:
        large = [max(record["classes"], key=lambda entry: entry["pixels"])["id"]]
    draws = keyed_rng(settings.seed, epoch=settings.epoch, item=record["image_id"], purpose="split.class")
    return binary_mask(mask, record["classes"], large[int(draws.integers(len(large)))])


def read_masks(mask_set: MaskSet, part: str) -> pa.Table:
    """Read what of a part's masks tasks need."""
    return mask_set.read_part(part, ["image_id", "mask", "classes"])


def read_images(collection: Collection, part: str) -> pa.Table:
    """Read what of a part's pictures tasks need."""
    return collection.read_part(part, ["uri", "image"])


def collate(tasks: Sequence[Task], group: int) -> RawEpisodes:
    """Stack tasks into raw episodes of one shot; the partner of a task is the next one of its ``group`` rows."""
    rows = np.arange(len(tasks))
    start = rows // group * group
    partners = start + (rows - start + 1) % np.minimum(group, len(tasks) - start)
    canvases = np.stack([task.canvas for task in tasks])
    return RawEpisodes(
        query=torch.from_numpy(canvases).permute(0, 3, 1, 2).contiguous(),
        query_masks=torch.from_numpy(np.stack([task.query for task in tasks])),
        query_views=torch.from_numpy(np.stack([task.query_view for task in tasks])),
        support_masks=torch.from_numpy(np.stack([task.support for task in tasks]))[:, None],
        support_views=torch.from_numpy(np.stack([task.support_view for task in tasks]))[:, None],
        ids=tuple(task.image_id for task in tasks),
        partners=torch.from_numpy(partners),
        placements=torch.from_numpy(np.stack([task.distractor for task in tasks])),
    )


def table_row(table: pa.Table, row: int) -> dict[str, Any]:
    """Return one row of a table as plain values."""
    return {name: table.column(name)[row].as_py() for name in table.column_names}
