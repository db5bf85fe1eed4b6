"""Queries in several views: mirror images are mirrored back, and tiles are taken where objects are small."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from fss.evaluation.episode_images import EpisodeImages, EvaluationBatch
from fss.evaluation.evaluator import evaluate
from fss.evaluation.methods import SegmenterMethod
from fss.inference.predictor import Predictor
from fss.models.config import Fusion, Scales
from fss.models.features import Features
from fss.models.scales import TILES, cut_tile, decode_in_scales, tile_box
from tests.fss.evaluation.test_evaluator import FakeReader, plan
from tests.helpers.segmenter_contract import make

SIZE = 96
TINY = "timm:test_resnet.r160_in1k"


@pytest.mark.parametrize(("height", "width"), [(96, 96), (37, 101), (3, 2), (1, 1)])
def test_tiles_of_half_the_sides_cover_a_picture_of_any_size(height: int, width: int) -> None:
    covered = np.zeros((height, width), int)
    for number in range(len(TILES)):
        y, x = tile_box(number, height, width)
        assert y.stop - y.start <= height / 2 + 1 and x.stop - x.start <= width / 2 + 1
        covered[y, x] += 1
        assert cut_tile(np.zeros((height, width, 3), np.uint8), number).shape[:2] == covered[y, x].shape
    assert covered.min() >= 1


def fake_decode(query: Features, support: Features, masks: Tensor, size: Sequence[int]) -> Tensor:
    """Return logits whose foreground is the value of the query on its left part, else minus that value."""
    value, share = query[0][0].unbind(1)
    columns = torch.arange(size[1]) < share[:, None] * size[1]
    logit = torch.where(columns, value[:, None], -value[:, None])[:, None].expand(-1, size[0], -1)
    return torch.stack([-logit, logit], 1) + support[0][0].mean() * 0


@pytest.mark.parametrize(
    ("scales", "expected"), [("whole", []), ("adaptive", [0]), ("tiles", [0, 1])], ids=["whole", "adaptive", "tiles"]
)
def test_answers_of_tiles_are_averaged_with_the_whole_pictures(scales: Scales, expected: list[int]) -> None:
    query = [[torch.tensor([[1.0, 0.01], [1.0, 1.0]])]]  # the answers cover a hundredth and all of the picture
    masks = torch.zeros(2, 2, 50, 50)
    masks[:, :, :25, :5] = 1
    calls = []

    def encode_tiles(rows: Sequence[int], number: int) -> Features:
        calls.append(number)
        assert list(rows) == expected
        return [[torch.tensor([[5.0, 1.0]] * len(rows))]]

    support = [[torch.zeros(4, 1)]]
    logits, rows = decode_in_scales(
        fake_decode, query, support, masks, (100, 100), scales=scales, encode_tiles=encode_tiles
    )
    coarse = fake_decode(query, support, masks, (100, 100))
    assert rows == expected and calls == list(range(len(TILES))) * bool(expected)
    for row in range(2):
        tiles = torch.tensor([-5.0, 5.0])[:, None, None]
        assert torch.allclose(logits[row], (coarse[row] + tiles) / 2 if row in expected else coarse[row])


def test_the_answer_for_the_mirror_image_is_mirrored_back_and_averaged() -> None:
    query, flipped = [[torch.tensor([[1.0, 0.25]])]], [[torch.tensor([[3.0, 0.5]])]]
    support, masks = [[torch.zeros(1, 1)]], torch.ones(1, 1, 8, 8)
    logits, rows = decode_in_scales(
        fake_decode,
        query,
        support,
        masks,
        (2, 8),
        scales="whole",
        encode_tiles=lambda rows, number: [],
        encode_flipped=lambda: flipped,
    )
    assert rows == []
    # The plain answer is 1 on the left quarter; the mirrored one, 3 on its left half, counts on the right half.
    assert logits[0, 1, 0].tolist() == [(1 - 3) / 2] * 2 + [(-1 - 3) / 2] * 2 + [(-1 + 3) / 2] * 4


def test_edges_that_cut_the_picture_count_less() -> None:
    def decode(query: Features, support: Features, masks: Tensor, size: Sequence[int]) -> Tensor:
        return query[0][0].new_full((1, 2, *size), float(query[0][0]))

    logits, _ = decode_in_scales(
        decode,
        [[torch.tensor([0.0])]],
        [[torch.zeros(1, 1)]],
        torch.ones(1, 1, 8, 8),
        (80, 80),
        scales="tiles",
        encode_tiles=lambda _, number: [[torch.tensor([2.0 * (number == 4)])]],  # the tile in the middle
    )
    middle = logits[0, 0]
    assert middle[40, 40] == pytest.approx(1, abs=0.01) and middle[20, 40] == middle[40, 20] < 0.01
    assert (middle[:20] == 0).all() and (middle[20:40, 40].diff() > 0).all()


@pytest.mark.parametrize(
    ("learner", "fusion", "flip"),
    [
        ("masksplit", "joint", True),
        ("masksplit", "vote_published", True),
        ("hsnet", "joint", False),
        ("asnet", "joint", False),
        ("density", "joint", True),
        pytest.param("vat", "joint", False, marks=pytest.mark.slow),
    ],
)
def test_every_learner_sees_views_in_evaluation_and_prediction_alike(learner: str, fusion: Fusion, flip: bool) -> None:
    segmenter, reader = make(learner=learner, backbone=TINY), FakeReader()
    method = SegmenterMethod(segmenter, scales="tiles", flip=flip, fusion=fusion)
    episodes = plan(shots=2, episodes=1)
    result = evaluate([method], episodes, EpisodeImages(reader, SIZE), size=SIZE, original=True, keep=[0])
    assert result.tiled["model"] == 1 and result.passes_per_query("model") == 10 + flip
    assert method.passes == 3 + 9 + flip + 2 * segmenter.needs_support_images
    (episode,) = episodes
    query, *supports = (reader.read(name) for name in (episode.query_id, *episode.support_ids))
    pairs = [s.rgb for s in supports], [s.binary(episode.class_id) == 1 for s in supports]
    prediction = Predictor(segmenter).examples(*pairs).predict(query.rgb, refine=False, scales="tiles", flip=flip)
    assert prediction.passes == 10 + flip
    if fusion == "joint":
        assert (prediction.mask == result.predictions["model"][0]).mean() > 0.99


def test_tiles_are_encoded_once_a_picture_and_whole_queries_cost_nothing_more() -> None:
    segmenter, pictures = make(backbone=TINY), EpisodeImages(FakeReader(), SIZE)
    episodes = plan(episodes=6)
    whole, tiles = (SegmenterMethod(segmenter, name=name, scales=name) for name in ("whole", "tiles"))
    first = evaluate([whole, tiles], episodes, pictures, size=SIZE)
    again = evaluate([whole, tiles], episodes, pictures, size=SIZE)
    queries = {episode.query_id for episode in episodes}
    assert first.passes == {"whole": len(episodes.image_ids()), "tiles": len(episodes.image_ids()) + 9 * len(queries)}
    assert again.passes == {"whole": 0, "tiles": 0} and again.tiled == {"whole": 0, "tiles": 6}
    assert np.array_equal(first.counts["tiles"], again.counts["tiles"])
    batch = EvaluationBatch.load(episodes.episodes, pictures)
    expected = segmenter.decide(*whole.encode(batch))
    assert torch.equal(expected, whole.predict(batch))
