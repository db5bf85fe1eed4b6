"""Train every learner on class episodes for some minutes and compare it with the baselines.

    python -m pipelines.ingest --collection /tmp/fewshot ...        # a labelled collection with train and test classes
    python -m tests.benchmarks.bench_learners --collection /tmp/fewshot --weights mobilenet_v2.pth --minutes 10

Every learner uses the same frozen backbone and trains on the same episodes of the train classes. The tables show 1 and
5 shots on the test classes, 5 shots with every fusion, and the untrained prototype of the same backbone.
"""

import argparse
import json
import time
from pathlib import Path
from typing import get_args

import torch

from fss.collection import ClassIndex, Collection, ImageReader
from fss.episodes.config import AugmentConfig
from fss.episodes.episode_plan import make_plan
from fss.evaluation.baselines import AllForeground, UntrainedPrototype
from fss.evaluation.episode_images import EvaluationBatch
from fss.evaluation.evaluator import evaluate
from fss.evaluation.methods import Method, SegmenterMethod
from fss.evaluation.report import result_rows, to_text
from fss.models import FewShotSegmenter, create_segmenter, save_checkpoint
from fss.models.config import Fusion
from fss.models.shot_fusion import fuse
from fss.training.few_shot.class_stream import ClassStream
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from fss.training.few_shot.loop import TrainLoop

LEARNING_RATES = {"masksplit": 1e-3, "hsnet": 1e-3, "asnet": 1e-3, "vat": 5e-4}
"""Published rates of HSNet, ASNet and VAT. The published rate of MaskSplit, 1e-4, is for a hundred times more steps."""


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", required=True, help="a collection with truth and the splits train and test")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-learners"))
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--learners", nargs="+", default=["hsnet", "asnet", "vat", "masksplit"])
    parser.add_argument("--maskings", nargs="+", default=["feature", "hybrid"])
    parser.add_argument("--minutes", type=float, default=10.0, help="training time of each learner")
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--episodes", type=int, default=400, help="test episodes of a plan")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def train(options: argparse.Namespace, reader: ImageReader, index: ClassIndex, learner: str, masking: str) -> TrainLoop:
    """Train one segmenter until its time is up."""
    segmenter = create_segmenter(
        learner=learner,
        masking=masking,
        backbone=options.backbone,
        backbone_weights=options.weights,
        image_size=options.size,
    )
    stream = ClassStream(
        reader,
        index,
        classes=reader.collection.class_splits["train"],
        episodes=560,
        shots=1,
        image_size=options.size,
        stream=StreamConfig(batch_size=options.batch, lanes=options.batch),
        augment=AugmentConfig(enabled=False),
    )
    config = OptimizerConfig(steps=10**6, learning_rate=LEARNING_RATES[learner], weight_decay=0.0, ema=0.99)
    loop = TrainLoop(segmenter, stream, config)
    losses: list[float] = []
    start = time.monotonic()
    for report in loop.run():
        losses.append(report.loss)
        if time.monotonic() - start > options.minutes * 60:
            break
    first, last = (sum(part) / len(part) for part in (losses[:20], losses[-20:]))
    print(f"{learner} {masking}: {loop.step} steps of {options.batch}, loss {first:.3f} -> {last:.3f}", flush=True)
    return loop


class Fusions(SegmenterMethod):
    """A segmenter whose encodings and shot logits of the last batch serve every fusion."""

    _batch: EvaluationBatch | None = None

    def fused(self, batch: EvaluationBatch, fusion: Fusion) -> torch.Tensor:
        """Return the masks of one fusion."""
        if batch is not self._batch:
            self._batch, self._encoded = batch, self.encode(batch)
            self._logits = self.segmenter.shot_logits(*self._encoded)
        if fusion == "joint":
            return self.segmenter.decide(*self._encoded, fusion)
        return fuse(self._logits, fusion)


class OneFusion(Method):
    """One row of the table: a fusion of what :class:`Fusions` holds."""

    backend = "PyTorch"

    def __init__(self, source: Fusions, fusion: Fusion):
        self.name: str = fusion
        self._source, self._fusion = source, fusion

    @torch.no_grad()
    def predict(self, batch: EvaluationBatch) -> torch.Tensor:
        """Return masks."""
        return self._source.fused(batch, self._fusion)


def evaluate_model(
    options: argparse.Namespace, reader: ImageReader, index: ClassIndex, segmenter: FewShotSegmenter
) -> str:
    """Return the table of a trained segmenter on the test classes."""
    classes = reader.collection.class_splits["test"]
    results = []
    for shots in (1, 5):
        plan = make_plan(index, classes=classes, episodes=options.episodes, shots=shots, seed=0)
        source = Fusions(segmenter, cache_gb=1)
        methods = [OneFusion(source, name) for name in (get_args(Fusion) if shots > 1 else ("joint",))]
        others: list[Method] = [AllForeground(), UntrainedPrototype(segmenter.backbone, cache_gb=1)]
        results.append(evaluate([*methods, *others], plan, reader, size=options.size))
    table = result_rows(results, "joint")
    (options.output / f"{segmenter.config.learner}-{segmenter.config.masking}.json").write_text(json.dumps(table))
    return to_text(table)


def main() -> None:
    """Train and evaluate all learners."""
    options = parse()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    collection = Collection.open(options.collection)
    truth = collection.mask_set("truth")
    index, reader = ClassIndex.build(truth), ImageReader(collection, truth)
    for learner in options.learners:
        for masking in options.maskings:
            loop = train(options, reader, index, learner, masking)
            assert isinstance(loop.segmenter, FewShotSegmenter)
            with loop.ema.applied(loop.segmenter):
                save_checkpoint(loop.segmenter, options.output / f"{learner}-{masking}")
                print(evaluate_model(options, reader, index, loop.segmenter), flush=True)


if __name__ == "__main__":
    main()
