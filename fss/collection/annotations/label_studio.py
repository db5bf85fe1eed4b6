"""Label Studio's JSON: tasks with predictions to import (https://labelstud.io/guide/predictions), and its export.

``data.image`` of a task is a file below Label Studio's document root (``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``),
which must be the image root, or an s3:// URI. ``data.image_id`` is the image id, which Label Studio keeps.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np

from fss.collection.annotations.base import (
    AnnotatedImage,
    AnnotationFile,
    Shape,
    Write,
    check_unique,
    fill_polygons,
    read_json,
    regions,
    string_or_none,
)
from fss.collection.image_names import ImageRoot
from fss.collection.mask_export import ExportedMask
from fss.collection.sources.coco_categories import IGNORE_LABEL
from fss.core import storage
from fss.core.arrays import BoolArray
from fss.images.decode_errors import DecodeError
from fss.images.run_lengths import decode_brush, encode_brush

LOCAL_FILES = "/data/local-files/?d="
"""Path under which Label Studio serves files of its document root."""
CONTROL, PICTURE = "label", "image"
"""Names of the tags of a project that the tasks refer to."""
_PLACES = frozenset({"rle", "points", "x"})  # values of a region that has a place in a picture
_UPLOAD = re.compile(r"^(?:.*/)?upload/[^/]+/[0-9a-f]{8}-")  # prefix of uploaded files


def write_label_studio(
    masks: Iterator[ExportedMask], labels: Mapping[int, str], root: ImageRoot, write: Write, *, model_version: str
) -> tuple[int, int]:
    """Write masks as tasks whose predictions are brush strokes, and return the numbers of tasks and strokes.

    Args:
        masks: masks to write.
        labels: label by class id, see :func:`class_labels`.
        root: folder that paths are relative to.
        write: receives the JSON piece by piece.
        model_version: name that Label Studio shows with the predictions.

    Raises:
        ValueError: two classes have the same label.
    """
    check_unique(labels)
    tasks = strokes = 0
    write(b"[")
    for exported in masks:
        height, width = exported.mask.shape
        shared = {"type": "brushlabels", "from_name": CONTROL, "to_name": PICTURE, "image_rotation": 0}
        results: list[dict[str, Any]] = []
        for class_id, region in regions(exported):
            label = IGNORE_LABEL if class_id is None else labels[class_id]
            value = {"format": "rle", "rle": encode_brush(region), "brushlabels": [label]}
            size = {"original_width": width, "original_height": height}
            results.append({"id": f"{exported.image_id[:16]}-{len(results)}", **shared, **size, "value": value})
        path = root.relative(exported.uri)
        address = exported.uri if storage.is_remote(root.uri) else f"{LOCAL_FILES}{quote(path)}"
        task = {
            "data": {PICTURE: address, "image_id": exported.image_id},
            "predictions": [{"model_version": model_version, "result": results}],
        }
        write((b",\n" if tasks else b"\n") + json.dumps(task).encode())
        tasks += 1
        strokes += len(results)
    write(b"\n]\n")
    return tasks, strokes


def labeling_interface(labels: Mapping[int, str]) -> str:
    """Return the labeling interface of a Label Studio project that shows the tasks."""
    names = [*labels.values(), IGNORE_LABEL]
    lines = [f"    <Label value={quoteattr(name)}/>" for name in names]
    return "\n".join(
        [
            "<View>",
            f'  <Image name="{PICTURE}" value="${PICTURE}" zoom="true"/>',
            f'  <BrushLabels name="{CONTROL}" toName="{PICTURE}">',
            *lines,
            "  </BrushLabels>",
            "</View>\n",
        ]
    )


def read_label_studio(uri: str) -> AnnotationFile:
    """Read Label Studio's JSON export, or tasks with predictions.

    The newest annotation of a task counts; where nobody annotated, the first prediction does.

    Raises:
        ValueError: the file is no JSON list of tasks.
    """
    tasks = read_json(uri)
    if not isinstance(tasks, list) or not all(
        isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks
    ):
        raise ValueError(f"{uri} is no list of Label Studio tasks; export the project as JSON, not as JSON-MIN")
    file = AnnotationFile()
    predicted = 0
    for number, task in enumerate(tasks):
        data = task["data"]
        address = data.get("image") or next((value for value in data.values() if isinstance(value, str)), None)
        if not isinstance(address, str):
            file.problems.append(f"task {number}: data.image names no photograph")
            continue
        image = AnnotatedImage(name=_local_path(address), image_id=string_or_none(data.get("image_id")))
        results, is_prediction = _results(task)
        predicted += is_prediction
        if results is None:
            image.skipped = "nobody annotated it"
        if several := _several_pictures(results or []):
            image.error = f"several-pictures: its regions belong to {several}, and it is unknown which is this one"
        for result in () if several else results or ():
            _add_region(image, result)
        file.images.append(image)
    if predicted:
        file.notes.append(f"nobody annotated {predicted} of {len(tasks)} tasks; their predictions are imported")
    return file


def _results(task: Mapping[str, Any]) -> tuple[list[Any] | None, bool]:
    """Return the regions that count, None if there are none, and whether they are a prediction."""
    annotations = list(_dicts(task.get("annotations")))
    finished = [row for row in annotations if not row.get("was_cancelled") and isinstance(row.get("result"), list)]
    if finished:
        newest = max(finished, key=lambda row: str(row.get("updated_at") or row.get("created_at") or ""))
        return newest["result"], False
    predictions = [row for row in _dicts(task.get("predictions")) if isinstance(row.get("result"), list)]
    return (predictions[0]["result"], True) if predictions and not annotations else (None, False)


def _several_pictures(results: list[Any]) -> str | None:
    """Return the names or numbers of the pictures that the regions of a task belong to if these are several."""
    for key in ("to_name", "item_index"):
        rows = [row for row in _dicts(results) if key in row and isinstance(row.get("value"), dict)]
        names = {str(row[key]) for row in rows if not _PLACES.isdisjoint(row["value"])}
        if len(names) > 1:
            return f"the {key} {', '.join(sorted(names))}"
    return None


def _add_region(image: AnnotatedImage, result: Any) -> None:
    value = result.get("value") if isinstance(result, dict) else None
    if not isinstance(value, dict):
        image.problems.append("a region has no value")
        return
    kind = str(result.get("type"))
    names = value.get(kind, value.get("labels"))
    if "rle" in value:
        decode: Callable[[int, int], BoolArray] = partial(decode_brush, value["rle"])
    elif isinstance(value.get("points"), list):
        decode = partial(_decode_percent, value["points"])
    elif kind.endswith("labels"):
        image.problems.append(f"unsupported-shape: {kind}; draw it with a brush or as a polygon")
        return
    else:
        return  # an answer about the whole photograph, such as choices
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str) or not names[0].strip():
        image.problems.append(f"a region has the labels {names!r}; it needs exactly one")
        return
    if result.get("image_rotation"):
        image.problems.append(f"{names[0]}: rotated: the photograph was turned by {result['image_rotation']} degrees")
        return
    size = (result.get("original_height"), result.get("original_width"))
    image.shapes.append(Shape(label=names[0], decode=partial(_decode_sized, size, decode)))


def _decode_sized(size: Any, decode: Callable[[int, int], BoolArray], height: int, width: int) -> BoolArray:
    if size != (height, width):
        raise DecodeError("size-mismatch", f"the region was drawn on {size}; the photograph is {(height, width)}")
    return decode(height, width)


def _decode_percent(points: Any, height: int, width: int) -> BoolArray:
    try:
        shares = np.asarray(points, np.float64)
    except (TypeError, ValueError, OverflowError):
        shares = np.zeros(0)
    if shares.ndim != 2 or shares.shape[1] != 2:
        raise DecodeError("bad-polygon", "expected points x, y in percent")
    return fill_polygons([(shares * (width / 100, height / 100)).ravel().tolist()], height, width)


def _local_path(address: str) -> str:
    """Return the path that an address of Label Studio stands for: below its document root, or of an URL."""
    try:
        parts = urlsplit(address)
    except ValueError:  # such as http://[
        return address
    if "d" in (query := parse_qs(parts.query)):
        return query["d"][0]
    if parts.scheme in ("http", "https"):
        return unquote(parts.path)
    return _UPLOAD.sub("", address)


def _dicts(rows: Any) -> Iterator[dict[str, Any]]:
    return (row for row in (rows if isinstance(rows, list) else ()) if isinstance(row, dict))
