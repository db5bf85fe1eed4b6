"""Validation of one worker: the metrics of an evaluation, with pictures that are decoded once per machine."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from fss.collection import ClassIndex, Collection, ImageReader, MaskSet
from fss.collection.index import Sample
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.episodes.episode_plan import EpisodePlan, make_plan
from fss.evaluation.evaluator import evaluate
from fss.evaluation.methods import SegmenterMethod
from fss.evaluation.metrics import METRIC_NAMES, count_pixels
from fss.models import FewShotSegmenter, create_segmenter
from fss.models.confidence import SIGNALS
from fss.training.few_shot.config import HELD_OUT_IOU, HELD_OUT_LOSS, StreamConfig
from fss.training.few_shot.held_out_score import score_held_out
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.validation import EpisodeValidator, PseudoTaskValidator
from tests.helpers.networks import TinySegmenter

SIZE, CPU = 80, torch.device("cpu")


class CountingReader(ImageReader):
    """Counts what it decodes."""

    decoded = 0

    def read(self, image_id: str) -> Sample:
        self.decoded += 1
        return super().read(image_id)


@pytest.fixture(scope="module")
def plan(discs: tuple[Collection, MaskSet]) -> EpisodePlan:
    return make_plan(ClassIndex.build(discs[1]), episodes=12, shots=1, seed=0)


@pytest.fixture(scope="module")
def segmenter() -> FewShotSegmenter:
    return create_segmenter(learner="hsnet", masking="hybrid", backbone="timm:test_resnet.r160_in1k", image_size=SIZE)


def test_pseudo_tasks_have_the_counts_and_the_loss_of_their_batches(discs: tuple[Collection, MaskSet]) -> None:
    stream = MaskSplitStream(
        *discs,
        image_size=32,
        stream=StreamConfig(batch_size=3, held_out=0.3),
        split=SplitConfig(),
        augment=AugmentConfig(),
    )
    segmenter, limit = TinySegmenter(normalise=True), 10
    segmenter.norm.running_mean.fill_(0.1)  # type: ignore[union-attr,operator]
    counts, pixels, loss = torch.zeros(2, 2, dtype=torch.long), 0, 0.0
    segmenter.eval()
    for raw in stream.held_out(limit):
        batch = raw.render(32)
        with torch.no_grad():
            logits = segmenter(batch.query, batch.support_images, batch.support_masks)
        counts += torch.from_numpy(count_pixels(logits.argmax(1), batch.target).sum(0))
        loss += float(F.cross_entropy(logits, batch.target, ignore_index=255, reduction="sum"))
        pixels += int((batch.target != 255).sum())
    segmenter.train()
    assert stream.held_out_sizes(limit) == [3, 3, 1]
    metrics = PseudoTaskValidator(stream, limit).validate(segmenter, CPU)
    assert metrics[HELD_OUT_LOSS] == loss / pixels
    assert metrics[HELD_OUT_IOU] == float(counts[0, 1]) / float(counts[1, 1])
    assert segmenter.training
    half = score_held_out(segmenter, stream, limit=limit, precision="bf16")
    assert half.loss != metrics[HELD_OUT_LOSS] and half.loss == pytest.approx(metrics[HELD_OUT_LOSS], rel=0.02)


@pytest.mark.parametrize("cache_gb", [1.0, 0.0, 10 * 4 * SIZE**2 / 1e9], ids=["file", "memory", "both"])
def test_episodes_have_the_metrics_of_an_evaluation(
    discs: tuple[Collection, MaskSet], plan: EpisodePlan, segmenter: FewShotSegmenter, tmp_path: Path, cache_gb: float
) -> None:
    reader = CountingReader(*discs)
    expected = evaluate([SegmenterMethod(segmenter)], plan, reader, size=SIZE).metrics("model")
    stream = StreamConfig(cache_gb=cache_gb, cache_folder=tmp_path)
    reader.decoded = 0

    def validate() -> dict[str, float]:
        metrics = validator.validate(segmenter.train(), CPU)
        assert segmenter.training
        return metrics

    validator = EpisodeValidator(plan, reader, image_size=SIZE, stream=stream)
    metrics = validate()
    assert metrics == {f"val_{name}": getattr(expected, name).value for name in METRIC_NAMES}
    pictures = len({name for episode in plan for name in (episode.query_id, *episode.support_ids)})
    assert reader.decoded == pictures
    assert validate() == metrics and reader.decoded == pictures
    validator = EpisodeValidator(plan, reader, image_size=SIZE, stream=stream)  # as another process opens it
    in_file = {1.0: pictures, 0.0: 0}.get(cache_gb, 10)
    assert validate() == metrics and reader.decoded == 2 * pictures - in_file


def test_tasks_are_answered_with_and_without_their_object(
    discs: tuple[Collection, MaskSet], plan: EpisodePlan, segmenter: FewShotSegmenter
) -> None:
    settings = StreamConfig(batch_size=3, held_out=0.3)
    stream = MaskSplitStream(*discs, image_size=SIZE, stream=settings, split=SplitConfig(), augment=AugmentConfig())
    episodes = EpisodeValidator(plan, ImageReader(*discs), image_size=SIZE, stream=settings)
    # The last of 7 tasks is alone in its batch, and every picture of the plan shows its only class.
    for validator, count, absent in ((PseudoTaskValidator(stream, 7), 7, 6), (episodes, len(plan), 0)):
        answers = validator.answers(segmenter.eval(), CPU)
        assert (answers.signals.shape, answers.ious.shape) == ((count, len(SIGNALS)), (count,))
        assert len(answers.absent) == absent
        assert torch.isfinite(torch.cat([answers.signals, answers.absent])).all()
        assert ((answers.ious >= 0) & (answers.ious <= 1)).all()
