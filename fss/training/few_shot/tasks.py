"""Build the MaskSplit task of one image: decode it, split its mask and draw two views.

All functions use plain numpy and may be called from several threads.
"""

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
from fss.episodes.collage import Layout, draw_layout
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.episodes.distractors import Placement, draw_placement
from fss.episodes.episode import RawEpisodes
from fss.episodes.mask_split import draw_split, is_splittable
from fss.images.canvas import decode_canvas
from fss.images.limits import DecodeLimits, Decoding
from fss.images.mask_codec import binary_mask, decode_mask
from fss.images.resize import mask_canvas


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """Everything besides the image that determines a task."""

    size: int
    """Side of the canvases, in pixels."""
    split: SplitConfig
    """How masks are split."""
    augment: AugmentConfig
    """How views are drawn."""
    seed: int
    """Seed of all random draws."""
    epoch: int
    """Number of the epoch, which all random draws depend on too."""
    decoding: Decoding = "exact"
    """How images are decoded."""


class Task(NamedTuple):
    """An episode from one image before rendering: canvas [3, size, size], masks [size, size], views, distractor, and
    the layouts of the collages of query and support [2, 6]."""

    image_id: str
    canvas: NDArray[np.uint8]
    support: Mask
    query: Mask
    support_view: View
    query_view: View
    distractor: Placement
    layouts: Layout


def make_task(mask_row: Mapping[str, Any], canvas: NDArray[np.uint8], settings: TaskSettings) -> Task:
    """Build the task of one image, which depends only on the arguments.

    Args:
        mask_row: the row of the mask set: ``image_id``, ``mask``, ``classes``.
        canvas: the image, uint8 [3, size, size].
        settings: the settings of the task.
    """
    image_id, size = mask_row["image_id"], settings.size
    keys: dict[str, Any] = {"seed": settings.seed, "epoch": settings.epoch, "item": image_id}
    mask = _select_class_mask(mask_row, settings)
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
        layouts=np.stack(
            [
                draw_layout(settings.split, small[role], views[role], size=size, role=role, **keys)
                for role in ("query", "support")
            ]
        ),
    )


def read_canvas(
    image_row: Mapping[str, Any], image_id: str, settings: TaskSettings, limits: DecodeLimits
) -> NDArray[np.uint8]:
    """Decode the image of a row with ``image`` and ``uri`` to a canvas, uint8 [3, size, size].

    Raises:
        ValueError: the image can no longer be decoded, although it could when it was ingested.
    """
    try:
        data = read_image_bytes(image_row["image"], image_row["uri"], limits, image_id=image_id)
        return decode_canvas(data, settings.size, limits, decoding=settings.decoding)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"image {image_id} ({image_row['uri']}) was usable at ingest, not any more: {error}"
        ) from error


def read_part_tasks(
    collection: Collection, mask_set: MaskSet, part: str, rows: Sequence[int], settings: TaskSettings
) -> Iterator[Task]:
    """Yield the tasks of some rows of a part, in the order of ``rows``."""
    images, masks = read_images(collection, part, rows), read_masks(mask_set, part, rows)
    for number in range(len(rows)):
        mask_row = table_row(masks, number)
        canvas = read_canvas(table_row(images, number), mask_row["image_id"], settings, collection.limits)
        yield make_task(mask_row, canvas, settings)


def _select_class_mask(mask_row: Mapping[str, Any], settings: TaskSettings) -> Mask:
    """Return the mask of a random class that is large enough to be split, or of the largest class if none is."""
    mask = decode_mask(mask_row["mask"])
    height, width = mask.shape
    large = [
        entry["id"] for entry in mask_row["classes"] if is_splittable(entry["pixels"], height, width, settings.split)
    ]
    if not large:
        large = [max(mask_row["classes"], key=lambda entry: entry["pixels"])["id"]]
    rng = keyed_rng(settings.seed, epoch=settings.epoch, item=mask_row["image_id"], purpose="split.class")
    return binary_mask(mask, mask_row["classes"], large[int(rng.integers(len(large)))])


def read_masks(mask_set: MaskSet, part: str, rows: Sequence[int]) -> pa.Table:
    """Read the columns of some rows of a mask part that tasks need."""
    return mask_set.read_part(part, ["image_id", "mask", "classes"], rows=rows)


def read_images(collection: Collection, part: str, rows: Sequence[int]) -> pa.Table:
    """Read the columns of some rows of an image part that tasks need."""
    return collection.read_part(part, ["uri", "image"], rows=rows)


def collate(tasks: Sequence[Task], group: int) -> RawEpisodes:
    """Stack tasks into raw one-shot episodes.

    The partner of a task is the next task of the same ``group`` adjacent rows. A distractor comes from it, and the
    photographs of a collage come from it, its partner and so on.
    """
    rows = np.arange(len(tasks))
    start = rows // group * group
    partners = start + (rows - start + 1) % np.minimum(group, len(tasks) - start)
    return RawEpisodes(
        query=torch.from_numpy(np.stack([task.canvas for task in tasks])),
        query_masks=torch.from_numpy(np.stack([task.query for task in tasks])),
        query_views=torch.from_numpy(np.stack([task.query_view for task in tasks])),
        support_masks=torch.from_numpy(np.stack([task.support for task in tasks]))[:, None],
        support_views=torch.from_numpy(np.stack([task.support_view for task in tasks]))[:, None],
        ids=tuple(task.image_id for task in tasks),
        partners=torch.from_numpy(partners),
        placements=torch.from_numpy(np.stack([task.distractor for task in tasks])),
        layouts=torch.from_numpy(np.stack([task.layouts for task in tasks])),
    )


def table_row(table: pa.Table, row: int) -> dict[str, Any]:
    """Return a row of a table as a dict of Python values."""
    return {name: table.column(name)[row].as_py() for name in table.column_names}
