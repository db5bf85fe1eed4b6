"""Time the ingest of a data set in COCO's form, with this version and another one in turn.

    python -m tests.benchmarks.bench_coco --baseline ../other-checkout
    python -m tests.benchmarks.bench_coco --baseline ../other-checkout --pictures 200 --rounds 3

Writes photographs with ten polygons of about 40 points each, every tenth object as run lengths, and ingests them in one
process of either checkout: listing, then part by part. Each round times both, in changing order. Reported are the
median CPU seconds of listing, parts and both, their ratio, and whether all masks are equal.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 240, 320
OBJECTS, POINTS = 10, 40
CHILD = """
import hashlib, json, sys, time
from fss.collection.collection import Collection
from fss.collection.ingest import start_ingest
from fss.collection.ingest_part import ingest_part
from fss.collection.sources import SourceConfig
source, collection = sys.argv[1:]
begin = time.process_time()
ingest = start_ingest(collection, SourceConfig(kind="coco", path=source, subset="val2014"))
listed = time.process_time()
for part in ingest.parts:
    ingest_part(collection, part)
end = time.process_time()
digest = hashlib.sha256()
truth = Collection.open(collection).mask_set("truth")
for part in truth.ordered_parts():
    for row in truth.read_part(part, ["mask", "classes", "error"]).to_pylist():
        digest.update(repr(row).encode())
print(json.dumps({"listing": listed - begin, "parts": end - listed, "masks": digest.hexdigest()}))
"""


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, required=True, help="checkout to compare with")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    checkouts = {"this": Path(__file__).parents[2], "baseline": options.baseline.resolve()}
    results: dict[str, list[dict[str, float | str]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "source", options.pictures)
        for number in range(options.rounds):
            order = list(checkouts) if number % 2 else list(checkouts)[::-1]
            for name in order:
                collection = f"{folder}/{name}-{number}"
                results[name].append(ingest(checkouts[name], f"{folder}/source", collection))
    for step, keys in (("listing", ["listing"]), ("parts", ["parts"]), ("both", ["listing", "parts"])):
        seconds = {
            name: np.array([sum(float(result[key]) for key in keys) for result in rows])
            for name, rows in results.items()
        }
        ratio = np.median(seconds["this"] / seconds["baseline"])
        print(
            f"{step}: this {np.median(seconds['this']):.2f} s, baseline {np.median(seconds['baseline']):.2f} s, "
            f"ratio {ratio:.2f} (median of {options.rounds} rounds)"
        )
    masks = {result["masks"] for rows in results.values() for result in rows}
    print(f"{options.pictures * OBJECTS:,} objects; masks are {'equal' if len(masks) == 1 else 'different'}")


def ingest(checkout: Path, source: str, collection: str) -> dict[str, float | str]:
    """Ingest with a checkout, and return its times in seconds and a hash of the masks."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", CHILD, source, collection]
    ended = subprocess.run(command, env=environment, cwd=checkout, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float | str] = json.loads(ended.stdout.splitlines()[-1])
    return result


def write(root: Path, pictures: int) -> None:
    """Write the data set."""
    from pycocotools import mask as coco_mask

    from fss.collection.sources.coco import CATEGORY_IDS, COCO_CLASSES

    rng = np.random.default_rng(0)
    content: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": i, "name": n} for i, n in zip(CATEGORY_IDS, COCO_CLASSES, strict=True)]
    (root / "val2014").mkdir(parents=True)
    (root / "annotations").mkdir()
    for number in range(pictures):
        name = f"COCO_val2014_{number:012d}.jpg"
        small = rng.integers(0, 255, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
        Image.fromarray(small).resize((WIDTH, HEIGHT)).save(root / "val2014" / name)
        content["images"].append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
        for position in range(OBJECTS):
            angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
            radius = rng.uniform(10, 60) * rng.uniform(0.8, 1.2, POINTS)
            xs = (rng.uniform(0, WIDTH) + radius * np.cos(angle)).clip(0, WIDTH)
            ys = (rng.uniform(0, HEIGHT) + radius * np.sin(angle)).clip(0, HEIGHT)
            outline: object = [np.round(np.stack([xs, ys], axis=1).ravel(), 2).tolist()]
            if position == 0:
                mask = coco_mask.decode(coco_mask.frPyObjects(outline, HEIGHT, WIDTH))[..., 0]
                changes = np.flatnonzero(np.diff(np.concatenate(([0], mask.ravel(order="F")))))
                counts = np.diff(np.concatenate(([0], changes, [mask.size]))).tolist()
                outline = {"size": [HEIGHT, WIDTH], "counts": counts}
            content["annotations"].append(
                {
                    "id": number * OBJECTS + position,
                    "image_id": number,
                    "category_id": int(rng.choice(CATEGORY_IDS)),
                    "iscrowd": int(position == 0),
                    "segmentation": outline,
                }
            )
    (root / "annotations" / "instances_val2014.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main()
