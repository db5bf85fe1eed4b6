"""CVAT for images 1.1, an XML file: https://docs.cvat.ai/docs/manual/advanced/xml_format."""

from collections.abc import Iterator, Mapping
from functools import partial
from xml.etree.ElementTree import ParseError, XMLParser
from xml.sax.saxutils import escape, quoteattr

from fss.collection.annotations.base import (
    AnnotatedImage,
    AnnotationFile,
    Shape,
    Write,
    check_unique,
    fill_polygons,
    regions,
    set_size,
    unsized_note,
)
from fss.collection.image_names import ImageRoot
from fss.collection.mask_export import ExportedMask
from fss.collection.sources.coco_categories import IGNORE_LABEL
from fss.core import storage
from fss.core.arrays import BoolArray
from fss.images.decode_errors import DecodeError
from fss.images.run_lengths import decode_box, encode_box

_OTHER_SHAPES = frozenset({"box", "ellipse", "polyline", "points", "cuboid", "skeleton"})


def write_cvat(
    masks: Iterator[ExportedMask], labels: Mapping[int, str], root: ImageRoot, write: Write, *, name: str
) -> tuple[int, int]:
    """Write masks, one per photograph and class, and return the numbers of photographs and masks.

    Args:
        masks: masks to write.
        labels: label by class id, see :func:`class_labels`.
        root: folder that names are relative to.
        write: receives the XML piece by piece.
        name: name of the task.

    Raises:
        ValueError: two classes have the same label.
    """
    check_unique(labels)
    images = shapes = 0
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>", "  <meta><task>"]
    lines += [f"    <name>{_text(name)}</name>", "    <mode>annotation</mode>", "    <labels>"]
    for label in [*labels.values(), IGNORE_LABEL]:
        lines.append(f"      <label><name>{_text(label)}</name><type>mask</type><attributes></attributes></label>")
    lines += ["    </labels>", "  </task></meta>"]
    lines += [f"  <!-- names are relative to {_text(root.uri).replace('--', '- -')} -->", ""]
    write("\n".join(lines).encode())
    for exported in masks:
        height, width = exported.mask.shape
        path = _attribute(root.relative(exported.uri))
        lines = [
            f'  <image id="{images}" name={path} width="{width}" height="{height}" image_id="{exported.image_id}">'
        ]
        for class_id, region in regions(exported):
            label = _attribute(IGNORE_LABEL if class_id is None else labels[class_id])
            counts, box = encode_box(region)
            place = 'left="{}" top="{}" width="{}" height="{}"'.format(*box)
            runs = ", ".join(map(str, counts))
            lines.append(f'    <mask label={label} source="file" occluded="0" rle="{runs}" {place} z_order="0"></mask>')
            shapes += 1
        lines += ["  </image>", ""]
        write("\n".join(lines).encode())
        images += 1
    write(b"</annotations>\n")
    return images, shapes


def read_cvat(uri: str) -> AnnotationFile:
    """Read "CVAT for images 1.1".

    Raises:
        ValueError: the file is no such XML.
    """
    target = _Target()
    parser = XMLParser(target=target)
    try:
        fs, path = storage.resolve(uri)
        with storage.open_file(fs, path) as stream:
            while chunk := stream.read(1 << 20):
                parser.feed(chunk)
        parser.close()
    except _NotCvatError as error:
        raise ValueError(f'{uri} {error}; export the task as "CVAT for images 1.1"') from None
    except (ParseError, LookupError, ValueError) as error:  # also an encoding that Python lacks
        raise ValueError(f"{uri} is no valid XML: {error}") from error
    target.file.notes += unsized_note(target.file.images)
    return target.file


class _NotCvatError(ValueError):
    """The XML has another structure."""


class _Target:
    """Receives the elements of an XML file, so that the file is not held as a tree."""

    def __init__(self) -> None:
        self.file = AnnotationFile()
        self._image: AnnotatedImage | None = None
        self._levels: list[tuple[float, Shape]] = []
        self._depth = 0

    def doctype(self, *_: object) -> None:
        raise _NotCvatError("declares a document type, which could hold entities")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1 and tag != "annotations":
            raise _NotCvatError(f"has the root <{tag}> instead of <annotations>")
        if tag == "track":
            raise _NotCvatError("holds tracks of a video")
        if tag == "image":
            self._image = AnnotatedImage(name=attributes.get("name", ""), image_id=attributes.get("image_id"))
            set_size(self._image, attributes.get("height"), attributes.get("width"))
            self._levels = []
        elif self._image is not None and tag in ("mask", "polygon"):
            label = attributes.get("label", "").strip()
            if not label:
                self._image.problems.append(f"a {tag} has no label")
                return
            decode = partial(_decode_mask if tag == "mask" else _decode_polygon, attributes)
            try:
                level = float(attributes.get("z_order", 0))
            except ValueError:
                self._image.problems.append(f"{label}: bad-order: z_order is {attributes['z_order'][:20]!r}")
                return
            self._levels.append((level, Shape(label=label, decode=decode)))
        elif self._image is not None and tag in _OTHER_SHAPES:
            self._image.problems.append(f"unsupported-shape: {tag}; draw it with a brush or as a polygon")

    def end(self, tag: str) -> None:
        self._depth -= 1
        if tag == "image" and self._image is not None:
            self._image.shapes = [shape for _, shape in sorted(self._levels, key=lambda pair: pair[0])]
            self.file.images.append(self._image)
            self._image = None

    def close(self) -> None:
        """Finish; the parser calls it."""


def _decode_mask(attributes: Mapping[str, str], height: int, width: int) -> BoolArray:
    box = _numbers(attributes, "left", "top", "width", "height")
    try:
        counts = [int(count) for count in attributes.get("rle", "").split(",")]
    except ValueError as error:
        raise DecodeError("bad-run-lengths", "expected whole numbers with commas between them") from error
    if box is None:
        raise DecodeError("bad-box", "left, top, width and height must be whole numbers")
    return decode_box(counts, box, height, width)


def _decode_polygon(attributes: Mapping[str, str], height: int, width: int) -> BoolArray:
    try:
        points = [float(number) for number in attributes.get("points", "").replace(";", ",").split(",")]
    except ValueError as error:
        raise DecodeError("bad-coordinates", "expected points x,y with semicolons between them") from error
    return fill_polygons([points], height, width)


def _numbers(attributes: Mapping[str, str], *names: str) -> list[int] | None:
    """Return attributes as integers; None if one is missing or no whole number."""
    try:
        return [int(attributes[name]) for name in names]
    except (KeyError, ValueError):
        return None


def _text(text: str) -> str:
    """Return text for an XML element; characters that XML 1.0 does not allow become question marks."""
    return escape(_allowed(text))


def _attribute(text: str) -> str:
    """Return a quoted XML attribute."""
    return quoteattr(_allowed(text))


def _allowed(text: str) -> str:
    return "".join(
        c if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "?" for c in text
    )
