"""What fast decoding changes: the pixels of canvases, and the mIoU of a trained segmenter.

    python -m pipelines.masksplit                                              # trains one on the painted sample
    python -m pipelines.ingest --collection coco --source.path coco200 --source.masks index
    python -m tests.benchmarks.bench_decoding --collection coco --model runs/masksplit/models/NAME/model

The episodes of a plan are evaluated twice at the size of the network, with canvases from exact and from fast decoding
for queries and supports. The masks are the same. Brackets are 95 % bootstrap intervals of the paired difference.
"""

from dataclasses import dataclass

import numpy as np
import tyro

from fss.collection import ClassIndex, Collection, ImageReader
from fss.collection.index import Sample
from fss.core.arrays import UInt8
from fss.episodes.episode_plan import make_plan, split_small_classes
from fss.evaluation.evaluator import evaluate
from fss.evaluation.methods import SegmenterMethod
from fss.evaluation.metrics import Interval, paired_differences
from fss.images.canvas import decode_canvas
from fss.images.limits import Decoding
from fss.images.mask_codec import decode_mask
from fss.models import load_checkpoint


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the benchmark."""

    collection: str
    """URI of the collection."""
    model: str
    """Folder of the segmenter."""
    mask_set: str = "truth"
    """Name of the mask set with the truth."""
    min_pixels: int = 1
    """Smallest number of pixels of a class in a picture."""
    episodes: int = 400
    """Episodes of the plan."""
    shots: int = 1
    """Supports per episode."""


class CanvasReader:
    """Reads images as canvases of one kind of decoding."""

    def __init__(self, reader: ImageReader, size: int, decoding: Decoding):
        self.reader, self.size, self.decoding = reader, size, decoding
        self.canvases: dict[str, UInt8] = {}

    def read(self, image_id: str) -> Sample:
        """Return the image at the size of a canvas, with its mask at the original size."""
        position = self.reader.index.find(image_id)
        assert position is not None, "the plan names images of the collection"
        encoded = self.reader.read_encoded(image_id, *position)
        assert encoded.mask is not None
        canvas = decode_canvas(encoded.image, self.size, decoding=self.decoding)
        self.canvases[image_id] = canvas
        rgb = np.ascontiguousarray(canvas.transpose(1, 2, 0))
        return Sample(image_id=image_id, rgb=rgb, mask=decode_mask(encoded.mask), classes=encoded.classes)


def main() -> None:
    """Evaluate twice and print the differences."""
    options = tyro.cli(Options, description=__doc__)
    collection = Collection.open(options.collection)
    masks = collection.mask_set(options.mask_set)
    index = ClassIndex.build(masks, min_pixels=options.min_pixels)
    classes, _ = split_small_classes(index, index, options.shots)
    plan = make_plan(index, classes=classes, episodes=options.episodes, shots=options.shots, seed=0)
    size = load_checkpoint(options.model).config.image_size
    numbers = [episode.number for episode in plan]
    canvases, results = {}, {}
    decodings: tuple[Decoding, ...] = ("exact", "fast")
    for decoding in decodings:
        reader = CanvasReader(ImageReader(collection, masks), size, decoding)
        method = SegmenterMethod(load_checkpoint(options.model))
        results[decoding] = evaluate([method], plan, reader, size=size, keep=numbers)
        canvases[decoding] = np.stack([reader.canvases[name] for name in plan.image_ids()]).astype(int)
        print(f"{decoding}: mIoU {percent(results[decoding].metrics('model').miou)}", flush=True)
    exact, fast = results["exact"], results["fast"]
    print(f"{options.shots} shot(s), {len(plan)} episodes, plan {plan.hash}, {size} px")
    differences = paired_differences(exact.class_ids, fast.counts["model"], exact.counts["model"])
    print("fast minus exact: " + ", ".join(f"{name} {percent(value)}" for name, value in differences.items()))
    pairs = [(exact.predictions["model"][number], fast.predictions["model"][number]) for number in numbers]
    changed = np.array([(a != b).mean() for a, b in pairs])
    print(
        f"masks: {100 * changed.mean():.3f} % of the pixels change, in {100 * (changed > 0).mean():.0f} % of the masks"
    )
    pixels = np.abs(canvases["exact"] - canvases["fast"])
    print(
        f"pixels of {len(pixels)} canvases: {pixels.mean():.3f} grey levels on average, 99 % at most "
        f"{np.percentile(pixels, 99):.0f}, largest {pixels.max()}"
    )


def percent(interval: Interval) -> str:
    """Return an interval in percent."""
    return f"{100 * interval.value:.2f} [{100 * interval.low:.2f}, {100 * interval.high:.2f}]"


if __name__ == "__main__":
    main()
