"""The images that show each class, in compact tables."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Ids
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fss.collection.mask_set import MaskSet
from fss.collection.schema import without_error
from fss.core.arrays import Int64


class Entry(NamedTuple):
    """An image that shows a class, with the class's number of pixels and its value in the image's mask."""

    image_id: str
    part: str
    row: int
    pixels: int
    value: int


class Entries(Sequence[Entry]):
    """Images that show a class, in the order of parts and rows; an entry is made when it is asked for."""

    def __init__(self, table: pa.Table, parts: Sequence[str]):
        self._table, self._parts = table, parts

    @property
    def image_ids(self) -> pa.Array:
        """Ids of the images, as an Arrow array of strings."""
        return self._table.column("image_id").combine_chunks()

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> "Entries": ...

    def __getitem__(self, index: int | slice) -> "Entry | Entries":
        if isinstance(index, slice):
            return Entries(self._table.take(np.arange(len(self))[index]), self._parts)
        image_id, part, row, pixels, value = (column[index].as_py() for column in self._table.columns)
        return Entry(image_id, self._parts[part], row, pixels, value)

    def __iter__(self) -> Iterator[Entry]:
        for batch in self._table.to_batches(max_chunksize=4096):
            for image_id, part, *numbers in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield Entry(image_id, self._parts[part], *numbers)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # equal to lists, like a list


class ClassIndex(Mapping[int, Entries]):
    """Mapping of class ids to the images that show them, in the order of parts and rows. No mask is decoded."""

    def __init__(self, table: pa.Table, starts: Mapping[int, int], parts: Sequence[str]):
        """Wrap a table; use :meth:`build`.

        Args:
            table: columns of :class:`Entry`, class by class; ``part`` is an index in ``parts``.
            starts: first row of each class in the table, in ascending order of classes and rows.
            parts: names of the parts.
        """
        self._table, self._starts, self._parts = table, dict(starts), parts
        self._stops = dict(zip(self._starts, [*list(self._starts.values())[1:], table.num_rows], strict=True))

    @classmethod
    def build(cls, mask_set: MaskSet, *, min_pixels: int = 1, accepted: Ids[str] | None = None) -> "ClassIndex":
        """Index a mask set.

        Args:
            mask_set: mask set to index.
            min_pixels: smallest number of pixels of a class for an image to be listed.
            accepted: image ids to include; None includes all. Rows with an error are always left out.
        """
        parts, tables, first = mask_set.ordered_parts(), [_SCHEMA.empty_table()], 0
        for sizes, table in mask_set.parts.groups(parts, ["image_id", "classes", "error"]):
            tables.append(_entries(table, sizes, first, max(1, min_pixels), accepted))
            first += len(sizes)
        table = pa.concat_tables(tables)
        order = np.argsort(table.column("class_id").to_numpy(), kind="stable")
        table = table.take(order).combine_chunks()
        classes, starts = np.unique(table.column("class_id").to_numpy(), return_index=True)
        return cls(table.drop_columns("class_id"), dict(zip(classes.tolist(), starts.tolist(), strict=True)), parts)

    def select(self, classes: Iterable[int], keep: Callable[[Entry, int], bool] | None = None) -> "ClassIndex":
        """Return an index of exactly some classes; a class that the index lacks has no entries.

        Args:
            classes: the class ids.
            keep: returns whether an entry of a class is kept; None keeps all.
        """
        tables, starts, first = [self._table.slice(0, 0)], {}, 0
        for class_id in sorted(set(classes)):
            table = self._class_table(class_id)
            if keep is not None:
                entries = Entries(table, self._parts)
                table = table.filter(pa.array([keep(entry, class_id) for entry in entries], pa.bool_()))
            tables.append(table)
            starts[class_id], first = first, first + table.num_rows
        return ClassIndex(pa.concat_tables(tables).combine_chunks(), starts, self._parts)

    def _class_table(self, class_id: int) -> pa.Table:
        if class_id not in self._starts:
            return self._table.slice(0, 0)
        start = self._starts[class_id]
        return self._table.slice(start, self._stops[class_id] - start)

    def __getitem__(self, class_id: int) -> Entries:
        if class_id not in self._starts:
            raise KeyError(class_id)
        return Entries(self._class_table(class_id), self._parts)

    def __iter__(self) -> Iterator[int]:
        return iter(self._starts)

    def __len__(self) -> int:
        return len(self._starts)


_SCHEMA = pa.schema(
    [
        pa.field("class_id", pa.int32()),
        pa.field("image_id", pa.large_string()),
        pa.field("part", pa.int32()),
        pa.field("row", pa.int32()),
        pa.field("pixels", pa.int64()),
        pa.field("value", pa.int32()),
    ]
)


def _entries(table: pa.Table, sizes: Sequence[int], first: int, min_pixels: int, accepted: Ids[str] | None) -> pa.Table:
    """Return the entries of parts of some sizes; ``first`` is the index of the first part."""
    classes = table.column("classes").combine_chunks()
    row_of: Int64 = pc.list_parent_indices(classes).to_numpy()
    flat = pc.list_flatten(classes)
    pixels = pc.struct_field(flat, "pixels").to_numpy()
    values = (np.arange(len(row_of)) - np.searchsorted(row_of, row_of) + 1).astype(np.int32)
    usable = without_error(table)
    if accepted is not None:
        usable = usable & np.array([image_id in accepted for image_id in table.column("image_id").to_pylist()], bool)
    kept = np.flatnonzero(usable[row_of] & (pixels >= min_pixels))
    row_of = row_of[kept]
    part_of = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(table.num_rows) - np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
    columns: list[Any] = [
        pc.struct_field(flat, "id").take(kept),
        table.column("image_id").combine_chunks().cast(pa.large_string()).take(row_of),
        pa.array((first + part_of[row_of]).astype(np.int32)),
        pa.array(rows[row_of].astype(np.int32)),
        pa.array(pixels[kept]),
        pa.array(values[kept]),
    ]
    return pa.table(columns, schema=_SCHEMA)
