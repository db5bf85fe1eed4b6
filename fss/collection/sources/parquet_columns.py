"""The columns of a Parquet file that hold photographs and masks, by settings, or by type and name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fss.collection.config import SourceConfig
from fss.collection.sources.folder import LABELLED
from fss.collection.sources.mask_layout import is_image_name, is_mask_name

_PLAIN = ("image", "img", "photo", "picture", "jpg", "jpeg", "png", "webp", "bytes", "content")  # best first
_OTHER_MEDIA = ("Audio", "Video", "Pdf")  # features that are stored like images


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns to read."""

    image: str
    """Column of the photographs."""
    mask: str | None
    """Column of the masks."""
    leaves: list[str]
    """Paths of the columns of bytes: ``image.bytes`` of a struct, else the name."""
    notes: tuple[str, ...] = ()
    """What is left out."""

    def __str__(self) -> str:
        return self.image if self.mask is None else f"{self.image} and {self.mask}"


def find_columns(schema: pa.Schema, config: SourceConfig) -> Columns:
    """Return the columns of photographs and masks.

    Raises:
        ValueError: there is no column of images, there are several, or the settings name another.
    """
    features = _features(schema)
    types = {field.name: field.type for field in schema if schema.names.count(field.name) == 1}
    holders = [
        name
        for name, kind in types.items()
        if _holds_bytes(kind) and features.get(name, {}).get("_type") not in _OTHER_MEDIA
    ]
    mask = None
    if config.masks != "none":
        names = [name for name in holders if is_mask_name(name) and name != config.image_column]
        mask = _choose(config.mask_column, names, "mask-column", types, holders)
    names = [name for name in holders if name != mask]
    named = [name for name in names if name.casefold() in _PLAIN or is_image_name(name)]
    image = _choose(config.image_column, named or names, "image-column", types, names)
    if image is None:
        raise ValueError(_no_images(schema))
    if mask is None and config.meaning in LABELLED:
        raise ValueError(
            f"masks={config.meaning} needs masks, but no column is named like masks; give --source.mask-column NAME"
        )
    names = [name for name in (image, mask) if name is not None]
    leaves = [f"{name}.bytes" if pa.types.is_struct(types[name]) else name for name in names]
    return Columns(image=image, mask=mask, leaves=leaves, notes=_notes(features, image, mask))


def _choose(
    given: str | None, names: Sequence[str], setting: str, types: Mapping[str, pa.DataType], holders: Sequence[str]
) -> str | None:
    """Return the column of the settings, else the only one, else the one of the plainest name; None without any."""
    if given is not None:
        if given in holders:
            return given
        kind = f"is of type {types[given]}" if given in types else "is missing"
        raise ValueError(
            f"--source.{setting} is {given!r}, which {kind}; the columns of encoded images are "
            f"{', '.join(holders) or 'none'}"
        )
    if len(names) <= 1:
        return names[0] if names else None
    folded = {name.casefold(): name for name in names}
    plain = next((folded[name] for name in (*_PLAIN, "mask") if name in folded), None)
    if plain is None:
        raise ValueError(f"the columns {', '.join(names)} all fit; give --source.{setting} NAME")
    return plain


def _no_images(schema: pa.Schema) -> str:
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    columns = ", ".join(f"{field.name} ({_type_name(field.type)})" for field in schema)
    if any(word in name.casefold() for name in texts for word in ("url", "uri", "path", "image", "img", "file")):
        return (
            f"the columns hold addresses of images, not images: {columns}. Download the pictures (img2dataset does) "
            "and ingest the folder or the shards, or store the table with the bytes of the images"
        )
    return f"no column holds encoded images, as bytes or as struct of bytes and path; the columns are {columns}"


def _notes(features: Mapping[str, Mapping[str, Any]], image: str, mask: str | None) -> tuple[str, ...]:
    """Say which columns hold classes of whole photographs."""
    notes = []
    for name, feature in features.items():
        names = feature.get("names")
        if feature.get("_type") == "ClassLabel" and name not in (image, mask) and isinstance(names, list):
            some = ", ".join(str(one) for one in names[:5]) + (", ..." if len(names) > 5 else "")
            notes.append(
                f"the column {name} has one of {len(names)} classes for a whole photograph ({some}); it is no mask and "
                "is left out"
            )
    return tuple(notes)


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return the features of Hugging Face's metadata by column; empty without or with unreadable metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _type_name(kind: pa.DataType) -> str:
    return str(kind) if len(str(kind)) <= 40 else f"{str(kind)[:37]}..."
