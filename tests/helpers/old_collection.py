"""A collection as format 1 laid it out: parts of one row group, and everything about a mask set beside its parts."""

import shutil
from pathlib import Path
from unittest import mock

from fss.collection import Collection, part_io
from fss.core.config import config_hash
from fss.relabel import feature_tables
from tests.helpers.discs import noisy_collection

RULE = {"quantile": 0.5}


def old_collection(folder: Path, images: int = 20, part_size: int = 8) -> Collection:
    """Write a collection of discs with the mask set ``saliency``, an acceptance, a report and neighbour tables."""
    with mock.patch.object(part_io, "ROW_GROUP", part_size):
        collection, masks = noisy_collection(folder, images, part_size)
    collection.metadata["format"] = 1
    part_io.write_json(f"{folder}/collection.json", collection.metadata)
    old = folder / "masks/saliency"
    for part in collection.part_names():
        ids = collection.read_part(part, ["image_id"])["image_id"].to_pylist()
        tables = {
            "features": [{"image_id": name, "feature": [1.0], "masked": True} for name in ids],
            "neighbours": [{"image_id": name, "cluster": 0, "supports": [], "similarity": []} for name in ids],
        }
        for kind, rows in tables.items():
            feature_tables.write(masks, kind, part, rows)
            Path(masks.metadata_uri, kind, f"{part}.parquet").rename(old / f"{kind}-{part}.parquet")
    ids = sorted(collection.image_ids()["part-00001"])
    content = {"name": "half", "rule": RULE, "hash": config_hash(RULE, ids), "accepted": ids}
    part_io.write_json(f"{old}/acceptance-half.json", content)
    (old / "report-half.md").write_text("# saliency\n")
    Path(masks.metadata_uri, "set.json").rename(old / "_set.json")
    for newer in ("metadata", "fragments"):  # nothing but fragments is left there
        shutil.rmtree(folder / newer)
    return Collection.open(str(folder))
