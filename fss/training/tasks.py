"""Make the task of one image: read, decode, cut, draw two views. Plain numpy, safe to call from several threads."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from fss.collection import Collection, MaskSet, files
from fss.collection.decode import decode_image
from fss.collection.mask_codec import binary_mask, decode_mask
from fss.draws import generator
from fss.episodes.augment import AugmentConfig, View, draw_view
from fss.episodes.canvas import image_canvas, mask_canvas
from fss.episodes.distract import Placement, draw_placement
from fss.episodes.episode import RawEpisodes
from fss.episodes.split import Mask, SplitConfig, draw_split, usable
from fss.training.canvas_cache import CanvasCache
from fss.training.rows import RowTable

Place = tuple[int, int]
"""Part number, row within the part."""


class Task(NamedTuple):
    """One episode of one image, before it is rendered."""

    image_id: str
    canvas: NDArray[np.uint8]
    support: Mask
    query: Mask
    support_view: View
    query_view: View
    distractor: Placement


class TaskMaker:
    """Turns rows of a collection into tasks; equal keys give equal tasks."""

    def __init__(self, collection: Collection, mask_set: MaskSet, rows: RowTable, cache: CanvasCache, parts: int):
        """Open a maker.

        Args:
            collection: the photographs.
            mask_set: their masks.
            rows: the scan of both.
            cache: where decoded canvases are kept; a row's slot counts all rows of all parts.
            parts: part tables to keep in memory.
        """
        self._collection, self._mask_set, self._rows, self._cache = collection, mask_set, rows, cache
        self._limits = collection.limits
        self._masks = functools.lru_cache(parts)(self._read_masks)
        self._images = functools.lru_cache(parts)(self._read_images)

    def load(self, places: Iterable[Place]) -> None:
        """Read the part tables that the tasks of ``places`` need, pictures only where a canvas is missing."""
        for part, row in places:
            self._masks(part)
            if not self._cache.has(self._rows.first_slot[part] + row):
                self._images(part)

    def make(
        self, place: Place, *, size: int, split: SplitConfig, augment: AugmentConfig, seed: int, epoch: int
    ) -> Task:
        """Make the task of one row with canvases of ``size`` pixels a side."""
        image_id, mask = self._mask(place, split, seed, epoch)
        halves = draw_split(mask, split, seed=seed, epoch=epoch, item=image_id)
        small = {"support": mask_canvas(halves.support, size), "query": mask_canvas(halves.query, size)}
        views = {
            role: draw_view(
                augment,
                half,
                height=mask.shape[0],
                width=mask.shape[1],
                size=size,
                seed=seed,
                epoch=epoch,
                item=image_id,
                role=role,
            )
            for role, half in small.items()
        }
        return Task(
            image_id=image_id,
            canvas=self._canvas(place, image_id, size),
            support=small["support"],
            query=small["query"],
            support_view=views["support"],
            query_view=views["query"],
            distractor=draw_placement(split.distractor, seed=seed, epoch=epoch, item=image_id),
        )

    def _mask(self, place: Place, split: SplitConfig, seed: int, epoch: int) -> tuple[str, Mask]:
        """Return the image id and the mask of its class; of several classes that can be cut one is drawn."""
        part, row = place
        record = _record(self._masks(part), row)
        mask = decode_mask(record["mask"])
        height, width = mask.shape
        large = [entry["id"] for entry in record["classes"] if usable(entry["pixels"], height, width, split)]
        if not large:
            large = [max(record["classes"], key=lambda entry: entry["pixels"])["id"]]
        draw = generator(seed, epoch=epoch, item=record["image_id"], purpose="split.class").integers(len(large))
        return record["image_id"], binary_mask(mask, record["classes"], large[int(draw)])

    def _canvas(self, place: Place, image_id: str, size: int) -> NDArray[np.uint8]:
        part, row = place
        slot = self._rows.first_slot[part] + row
        canvas = self._cache.get(slot)
        if canvas is None:
            record = _record(self._images(part), row)
            try:
                data = record["image"] or files.read_bytes(record["uri"])
                canvas = image_canvas(decode_image(data, self._limits), size)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"image {image_id} ({record['uri']}) was usable and is not any more: {error}"
                ) from error
            self._cache.put(slot, canvas)
        return canvas

    def _read_masks(self, part: int) -> pa.Table:
        return self._mask_set.read_part(self._rows.parts[part], ["image_id", "mask", "classes"])

    def _read_images(self, part: int) -> pa.Table:
        return self._collection.read_part(self._rows.parts[part], ["uri", "image"])


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


def _record(table: pa.Table, row: int) -> dict[str, Any]:
    return {name: table.column(name)[row].as_py() for name in table.column_names}
