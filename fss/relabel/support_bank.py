"""The bank of supports of a mask set, ``metadata/<set>/supports/``: pictures and masks that a relabelling reads often.

A support is read at random by every process, so the bank holds it as the network needs it. A picture is stored as it
came, or as a lossless canvas of the network's size where that is smaller; its mask is stored at the network's size.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pyarrow as pa

from fss.collection import ImageReader, MaskSet, part_io
from fss.collection.index import EncodedSample
from fss.collection.part_rows import PartRows
from fss.core import storage
from fss.core.arrays import Rgb, UInt8
from fss.images.decode import decode_image
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import binary_mask, decode_mask, encode_mask
from fss.images.resize import image_canvas, mask_canvas
from fss.relabel import feature_tables
from fss.relabel.class_bank import parse_shot_name, shot_mask
from fss.relabel.supports import Shot, foreground

SUPPORTS = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),  # image id, or "class:image id"
        pa.field("image", pa.large_binary(), nullable=False),  # encoded
        pa.field("mask", pa.large_binary(), nullable=False),  # PNG of the network's size, 1 on the object
    ]
)
Position = tuple[str, int]
"""Part and row of an image."""
READERS = 8  # tables read concurrently, which hides the latency of an object store


def write_candidate_supports(masks: MaskSet, table: str, current: MaskSet, size: int) -> int:
    """Write the supports of a table of candidates, and return their number.

    Args:
        masks: the new mask set.
        table: name of the table of candidates.
        current: the masks of the supports; every class is object.
        size: side of the network's images in pixels.
    """
    candidates = feature_tables.read(masks, "candidates", table)
    candidates = candidates.filter(candidates.column("bank")).select(["image_id", "part", "row"])
    reader = ImageReader(current.collection, current)
    rows = []
    for candidate in candidates.to_pylist():
        sample = reader.read_encoded(**candidate)
        mask = foreground(mask_canvas(_mask(sample), size))
        rows.append((candidate["image_id"], sample.image, mask))
    return _write(masks, table, rows, size, current.collection.limits)


def write_shots(masks: MaskSet, table: str, shots: Mapping[str, Position], labelled: MaskSet, size: int) -> int:
    """Write labelled shots as a table of supports, and return their number.

    Args:
        masks: the new mask set.
        table: name of the table.
        shots: part and row by the name of a shot (:func:`fss.relabel.class_bank.shot_name`).
        labelled: the labels.
        size: side of the network's images in pixels.
    """
    reader, rows = ImageReader(labelled.collection, labelled), []
    for name, position in shots.items():
        class_id, image_id = parse_shot_name(name)
        sample = reader.read_encoded(image_id, *position)
        rows.append((name, sample.image, shot_mask(binary_mask(_mask(sample), sample.classes, class_id), size)))
    return _write(masks, table, rows, size, labelled.collection.limits)


def support_reader(
    masks: MaskSet, size: int, limits: DecodeLimits, otherwise: Callable[[str], Shot]
) -> Callable[[str], Shot]:
    """Return a function from the name of a support to its shot of ``size`` pixels a side.

    Args:
        masks: the mask set that the bank belongs to.
        size: side of the network's images in pixels.
        limits: limits of the collection of the supports.
        otherwise: reads a support that the bank lacks: neighbours that an earlier version found have no bank.
    """
    folder = _folder(masks)
    rows = PartRows(folder, SUPPORTS, ["image", "mask"])
    tables = part_io.list_parts(folder)
    with ThreadPoolExecutor(READERS) as pool:
        columns = list(pool.map(lambda table: part_io.read(folder, table, SUPPORTS, ["name"]).column("name"), tables))
    positions = {
        name: (table, row)
        for table, names in zip(tables, columns, strict=True)
        for row, name in enumerate(names.to_pylist())
    }

    def read(name: str) -> Shot:
        if name not in positions:
            return otherwise(name)
        image, mask = (rows.value(*positions[name], column) for column in ("image", "mask"))
        assert image is not None and mask is not None, "a support has both"
        return Shot(image_canvas(decode_image(image, limits), size), decode_mask(mask))

    return read


def finished_tables(masks: MaskSet) -> set[str]:
    """Return the names of the tables of the bank, by a single listing."""
    return set(part_io.list_parts(_folder(masks)))


def _write(
    masks: MaskSet, table: str, supports: Iterable[tuple[str, bytes, UInt8]], size: int, limits: DecodeLimits
) -> int:
    rows = [
        {"name": name, "image": _smaller(image, size, limits), "mask": encode_mask(mask)}
        for name, image, mask in supports
    ]
    part_io.write(_folder(masks), table, SUPPORTS, pa.Table.from_pylist(rows, schema=SUPPORTS))
    return len(rows)


def _smaller(image: bytes, size: int, limits: DecodeLimits) -> bytes:
    """Return an encoded image, or its canvas as PNG where that is smaller; both give the same canvas."""
    if len(image) <= size * size:  # a PNG of a photograph takes more than a byte per pixel
        return image
    canvas = encode_canvas(image_canvas(decode_image(image, limits), size))
    return min(image, canvas, key=len)


def encode_canvas(rgb: Rgb) -> bytes:
    """Encode an image, uint8 [H,W,3], as PNG (lossless)."""
    encoded, data = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
    assert encoded, "an array of this form can be encoded"
    return data.tobytes()


def _mask(sample: EncodedSample) -> UInt8:
    assert sample.mask is not None, "a support needs a mask"
    return decode_mask(sample.mask)


def _folder(masks: MaskSet) -> str:
    return storage.join(masks.metadata_uri, "supports")
