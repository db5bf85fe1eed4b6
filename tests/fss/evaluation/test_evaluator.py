"""Evaluation: predictions equal to those of the segmenter, few backbone passes, baselines and reports."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fss.collection.index import Sample
from fss.core.rng import keyed_rng
from fss.episodes.episode_plan import EpisodePlan, make_plan
from fss.episodes.rendering import normalize_imagenet
from fss.evaluation import report
from fss.evaluation.baselines import (
    AllForeground,
    SalientObject,
    UntrainedPrototype,
    untrained_density,
    untrained_density_prior,
)
from fss.evaluation.episode_images import EpisodeImages, EvaluationBatch, MemoryCache
from fss.evaluation.episode_table import SCHEMA, write_episode_table
from fss.evaluation.evaluator import EvaluationResult, evaluate
from fss.evaluation.methods import SegmenterMethod
from fss.images.resize import image_canvas, mask_canvas
from fss.inference.predictor import Predictor
from fss.models import FewShotSegmenter, SegmenterConfig, create_segmenter
from fss.models.config import DensityConfig
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent

SIZE = 80
CLASSES, IMAGES = (3, 5), 6


class FakeReader:
    """Makes images of a square in the colour of the class on noise, and records which are read."""

    def __init__(self) -> None:
        self.reads: list[str] = []

    def read(self, image_id: str) -> Sample:
        self.reads.append(image_id)
        class_id, number = map(int, image_id.split("-"))
        rng = keyed_rng(number, item=class_id, purpose="test")
        mask = np.zeros((100, 120), np.uint8)
        top, left = rng.integers(5, 40, 2)
        mask[top : top + 45, left : left + 45] = 1
        mask[:3] = 255
        rgb = rng.integers(0, 60, (100, 120, 3), dtype=np.uint8)
        rgb[mask == 1, CLASSES.index(class_id)] += 180
        return Sample(image_id=image_id, rgb=rgb, mask=mask, classes=(class_id,))


class Entry:
    def __init__(self, image_id: str):
        self.image_id = image_id


def plan(shots: int = 1, episodes: int = 8) -> EpisodePlan:
    index = {c: [Entry(f"{c}-{n}") for n in range(IMAGES)] for c in CLASSES}
    return make_plan(index, episodes=episodes, shots=shots, seed=0)


@pytest.fixture(scope="module")
def segmenters() -> Callable[[str], FewShotSegmenter]:
    return lambda masking: create_segmenter(backbone="mobilenet_v2", masking=masking, image_size=SIZE)


def estimate(image_id: str, rgb: np.ndarray) -> np.ndarray:
    return (rgb.max(2) > 100).astype(np.uint8)


@pytest.mark.parametrize("masking", ["none", "feature", "input", "hybrid"])
def test_caching_changes_no_prediction_and_saves_passes(
    segmenters: Callable[[str], FewShotSegmenter], masking: str
) -> None:
    reader, episodes = FakeReader(), plan(shots=2)
    method = SegmenterMethod(segmenters(masking), fusion="mean_probability")
    result = evaluate([method], episodes, reader, size=SIZE, batch=5, keep=range(8))
    assert len(reader.reads) == len(set(reader.reads)) == len(episodes.image_ids())
    assert method.passes <= len(episodes.image_ids()) * (1 if masking in ("none", "feature") else 2)
    for episode in episodes.episodes[::4]:
        samples = [reader.read(name) for name in (episode.query_id, *episode.support_ids)]
        images = normalize_imagenet(
            torch.from_numpy(np.stack([image_canvas(s.rgb, SIZE) for s in samples])).permute(0, 3, 1, 2).float() / 255
        )
        masks = torch.from_numpy(np.stack([mask_canvas(s.binary(episode.class_id), SIZE) == 1 for s in samples[1:]]))
        expected = method.segmenter.predict(images[:1], images[None, 1:], masks[None].float(), "mean_probability")
        agree = (expected[0].numpy() == result.predictions["model"][episode.number]).mean()
        assert agree > 0.999  # rounding depends on the batch size


@pytest.mark.parametrize(
    ("learner", "support_crop"), [("density", True), ("density", False), ("masksplit", True), ("masksplit", False)]
)
def test_caching_changes_no_density(learner: Literal["density", "masksplit"], support_crop: bool) -> None:
    prior = SaliencyStudent(StudentConfig(image_size=64, width=16))
    network: dict[str, Any] = {"learner": learner, "density_prior": learner == "masksplit", "width": 32}
    density = DensityConfig(support_crop=support_crop)
    config = SegmenterConfig(backbone="mobilenet_v2", image_size=SIZE, density=density, frozen=True, **network)
    method = SegmenterMethod(FewShotSegmenter.from_config(config, prior=prior))
    episodes, pictures = plan(shots=2, episodes=4), EpisodeImages(FakeReader(), SIZE)
    result = evaluate([method], episodes, pictures, size=SIZE, keep=range(4))
    assert method.passes <= len(episodes.image_ids()) * (2 if support_crop else 1)
    batch = EvaluationBatch.load(episodes.episodes, pictures)
    queries, supports = pictures.images(batch.query_ids), pictures.images(batch.support_ids)
    expected = method.segmenter.predict(queries, supports.unflatten(0, (4, 2)), batch.support_masks)
    for mask, episode in zip(expected, episodes, strict=True):
        assert (mask.numpy() == result.predictions["model"][episode.number]).mean() > 0.999
    baseline = untrained_density_prior(method.segmenter)
    assert (baseline is None) == (learner == "density")
    if baseline is not None:
        alone = FewShotSegmenter.from_config(replace(config, learner="density", density_prior=False), prior=prior)
        alone.backbone.load_state_dict(method.segmenter.backbone.state_dict())
        assert torch.equal(baseline.predict(batch), SegmenterMethod(alone).predict(batch))
        for each in (method, baseline):  # they share the saliency prior
            before = each.predict(batch)
            each.prepare()
            assert each.backend == "oneDNN"
            assert (each.predict(batch) == before).float().mean() > 0.999


def test_a_small_cache_gives_the_same_result(segmenters: Callable[[str], FewShotSegmenter]) -> None:
    model = segmenters("none")
    roomy = SegmenterMethod(model)
    tight = SegmenterMethod(model, name="tight", cache_gb=1e-9)
    result = evaluate([roomy, tight], plan(), FakeReader(), size=SIZE, batch=1)
    assert tight.passes > roomy.passes
    assert np.abs(result.counts["model"] - result.counts["tight"]).max() <= 3


def test_the_batch_size_does_not_change_the_result(segmenters: Callable[[str], FewShotSegmenter]) -> None:
    method = SalientObject(estimate)
    many = evaluate([method], plan(), FakeReader(), size=SIZE, batch=7)
    one = evaluate([method], plan(), FakeReader(), size=SIZE, batch=1)
    assert np.array_equal(many.counts[method.name], one.counts[method.name])


def test_scoring_at_the_original_size(segmenters: Callable[[str], FewShotSegmenter]) -> None:
    method = SegmenterMethod(segmenters("hybrid"), fusion="mean_probability")
    episodes, reader = plan(shots=2, episodes=3), FakeReader()
    others = [AllForeground(), SalientObject(estimate), UntrainedPrototype(segmenters("none").backbone)]
    result = evaluate([method, *others], episodes, reader, size=SIZE, original=True, keep=range(3))
    assert result.original
    queries = {episode.query_id for episode in episodes}
    # One read gives mask and canvases. The saliency reads the photograph of the query itself.
    assert len(reader.reads) == len(episodes.image_ids()) + len(queries)
    # The object has 45 x 45 pixels and 97 rows of 120 are not void. The IoU is exact because nothing is resized.
    assert result.metrics("all foreground").miou.value == pytest.approx(45 * 45 / (97 * 120))
    assert result.metrics("saliency of the query").miou.value == 1
    assert result.shares == pytest.approx(45 * 45 / (100 * 120))
    for episode in episodes:
        samples = [reader.read(name) for name in (episode.query_id, *episode.support_ids)]
        images = normalize_imagenet(
            torch.from_numpy(np.stack([image_canvas(s.rgb, SIZE) for s in samples])).permute(0, 3, 1, 2).float() / 255
        )
        masks = torch.from_numpy(np.stack([mask_canvas(s.binary(episode.class_id), SIZE) == 1 for s in samples[1:]]))
        model = method.segmenter
        query, support = model.encode_episode(images[:1], images[None, 1:], masks[None].float())
        expected = model.decide(query, support, masks[None].float(), (100, 120), "mean_probability")
        prediction = result.predictions["model"][episode.number]
        assert prediction.shape == (100, 120)
        assert (expected[0].numpy() == prediction).mean() > 0.999


@pytest.mark.parametrize("original", [True, False])
def test_refined_outlines_are_those_of_a_prediction(original: bool) -> None:
    density = create_segmenter(learner="density", backbone="mobilenet_v2", image_size=SIZE)
    methods = [SegmenterMethod(density, name=str(refine), refine=refine) for refine in (True, False)]
    episodes, pictures = plan(episodes=3), EpisodeImages(FakeReader(), SIZE)
    result = evaluate(methods, episodes, pictures, size=SIZE, original=original, keep=range(3))
    assert result.refined == {"True": True, "False": False}
    predictor, moved = Predictor(density), []
    for episode in episodes:
        query, support = (FakeReader().read(name) for name in (episode.query_id, *episode.support_ids))
        rgb = query.rgb if original else image_canvas(query.rgb, SIZE)
        mask = (support.binary(episode.class_id) == 1).astype(np.uint8)
        expected = predictor.predict(support.rgb, mask, rgb, presence_threshold=0).mask
        refined, plain = (result.predictions[method.name][episode.number] for method in methods)
        assert (refined == expected).mean() > 0.999
        moved.append((refined != plain).sum())
    assert sum(moved) > 0
    answered, _ = methods[0].answer(EvaluationBatch.load(episodes.episodes[:1], pictures, original=original))
    assert (answered[0].numpy() == result.predictions["True"][episodes.episodes[0].number]).mean() > 0.999
    assert "as fss predict draws them: True\n" in report.to_text(report.result_rows([result]))


def test_plans_share_the_features_of_images(segmenters: Callable[[str], FewShotSegmenter]) -> None:
    method, pictures = SegmenterMethod(segmenters("none")), EpisodeImages(FakeReader(), SIZE)
    first = evaluate([method], plan(shots=1), pictures, size=SIZE)
    again = evaluate([method], plan(shots=1), pictures, size=SIZE)
    assert first.passes == {"model": len(plan().image_ids())}
    assert again.passes == {"model": 0}
    assert np.array_equal(first.counts["model"], again.counts["model"])


def test_the_table_of_episodes(results: list[EvaluationResult], tmp_path: Path) -> None:
    write_episode_table(str(tmp_path / "episodes.parquet"), results)
    table = pq.read_table(tmp_path / "episodes.parquet")
    assert table.schema.names == SCHEMA.names
    assert table.num_rows == 2 * 2 * 8
    row = table.slice(3, 1).to_pylist()[0]
    counts = results[0].counts["model"][3]
    assert (row["episode"], row["method"], row["plan"]) == (3, "model", plan().hash)
    assert (row["intersection_foreground"], row["union_background"]) == (counts[0, 1], counts[1, 0])
    assert row["iou"] == counts[0, 1] / counts[1, 1]


def test_baselines_score_as_expected(segmenters: Callable[[str], FewShotSegmenter]) -> None:
    result = evaluate(
        [
            AllForeground(),
            SalientObject(estimate),
            UntrainedPrototype(segmenters("none").backbone),
            untrained_density(segmenters("none")),
        ],
        plan(),
        FakeReader(),
        size=SIZE,
    )
    everything, salient = result.metrics("all foreground"), result.metrics("saliency of the query")
    assert everything.miou.value == pytest.approx(45 * 45 / (97 * 120), abs=0.01)  # the object among the valid rows
    assert salient.miou.value > 0.99
    for method in ("untrained prototype", "density ratio, untrained"):
        assert 0 <= result.metrics(method).miou.value <= 1


def test_the_prototype_separates_what_the_features_separate() -> None:
    class Colours(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> list[list[torch.Tensor]]:
            return [[], [torch.nn.functional.avg_pool2d(images, 4)]]

    prototype = UntrainedPrototype(Colours())  # type: ignore[arg-type]
    for shots in (1, 3):
        result = evaluate([prototype], plan(shots), FakeReader(), size=SIZE)
        assert result.metrics("untrained prototype").miou.value > 0.8


def test_void_is_removed_and_support_void_is_background() -> None:
    batch = EvaluationBatch.load(plan().episodes[:2], EpisodeImages(FakeReader(), SIZE))
    assert (batch.target[:, 0] == 255).all()
    assert (batch.support_masks[:, :, 0] == 0).all()
    assert batch.target.shape == (2, SIZE, SIZE)
    assert batch.support_masks.shape == (2, 1, SIZE, SIZE)


@pytest.mark.parametrize("processes", [2, 7])
def test_the_shares_of_several_processes_add_up(processes: int) -> None:
    whole = evaluate([AllForeground()], plan(), FakeReader(), size=SIZE, batch=3)
    progress: list[tuple[int, int]] = []
    shares = [
        evaluate(
            [AllForeground()],
            plan(),
            FakeReader(),
            size=SIZE,
            batch=3,
            share=(number, processes),
            progress=lambda *done: progress.append(done),
        )
        for number in range(processes)
    ]
    counts = np.stack([share.counts["all foreground"] for share in shares])
    assert np.array_equal(counts.sum(0), whole.counts["all foreground"])
    assert (counts.any((2, 3)).sum(0) == 1).all(), "every episode is in one share"
    assert sum(done for done, total in progress if done == total) == len(plan())


def test_methods_need_distinct_names() -> None:
    with pytest.raises(ValueError, match="name of its own"):
        evaluate([AllForeground(), AllForeground()], plan(), FakeReader(), size=SIZE)


def test_the_least_recently_used_image_is_read_again() -> None:
    reader = FakeReader()
    images = EpisodeImages(reader, SIZE, cache=MemoryCache(2 * 4 * SIZE * SIZE))
    for image_id in ("3-0", "3-1", "3-0", "3-2", "3-0", "3-1"):
        images.images([image_id])
    assert reader.reads == ["3-0", "3-1", "3-2", "3-1"]
    small = EpisodeImages(reader, SIZE, cache=MemoryCache(SIZE))
    assert torch.equal(small.images(["3-0"]), images.images(["3-0"])), "an image above the limit is not stored"


@pytest.fixture(scope="module")
def results() -> list[EvaluationResult]:
    methods = [SalientObject(estimate), AllForeground()]
    methods[0].name = "model"
    return [evaluate(methods, plan(shots), FakeReader(), size=SIZE) for shots in (1, 2)]


def test_the_table_has_a_row_per_plan_and_method(results: list[EvaluationResult]) -> None:
    table = report.result_rows(results, model="model")
    assert [(row["shots"], row["method"]) for row in table] == [
        (1, "model"),
        (1, "all foreground"),
        (2, "model"),
        (2, "all foreground"),
    ]
    assert json.loads(report.to_json(table))[1]["ahead_low"] > 0.5
    assert "ahead" not in table[0]
    assert table[0]["plan"] == plan().hash


def test_text_and_markdown_show_the_same_metrics(results: list[EvaluationResult]) -> None:
    table = report.result_rows(results, model="model")
    text, markdown = report.to_text(table), report.to_markdown(table)
    miou = f"{100 * table[1]['miou']:.1f} [{100 * table[1]['miou_low']:.1f}, {100 * table[1]['miou_high']:.1f}]"
    assert miou in text
    assert miou in markdown
    assert plan().hash in text
    assert "1-shot mIoU of model by object: small (" in text
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(lines) == 6
    assert len({line.count("|") for line in lines}) == 1
