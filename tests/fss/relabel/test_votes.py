"""Votes of a segmenter by view and support set."""

from collections import Counter

import numpy as np
import pytest
import torch

from fss.images.resize import image_canvas, mask_canvas
from fss.models import FewShotSegmenter, create_segmenter
from fss.relabel.supports import Shot
from fss.relabel.views import View, make_views, network_input
from fss.relabel.votes import SegmentationQuery, Voter
from tests.helpers.discs import coloured_disc

SIZE = 96


def shot(number: int) -> Shot:
    rgb, mask = coloured_disc(number)
    return Shot(image_canvas(rgb, SIZE), mask_canvas(mask, SIZE))


@pytest.fixture
def voter(segmenter: FewShotSegmenter) -> Voter:
    return Voter(segmenter, lambda name: shot(int(name)))


CANVASES = np.stack([shot(number).rgb for number in (0, 1)])


def probability(segmenter: FewShotSegmenter, canvas: np.ndarray, supports: list[Shot]) -> np.ndarray:
    """Return the prediction of a single call with all supports at once."""
    images = network_input(torch.from_numpy(np.stack([canvas, *(s.rgb for s in supports)])), View())
    masks = torch.from_numpy(np.stack([s.mask for s in supports])).float()
    with torch.no_grad():
        query, support = segmenter.encode_episode(images[:1], images[None, 1:], masks[None])
        logits = segmenter.decode(query, support, masks[None], (SIZE, SIZE))
    return np.asarray(logits.softmax(1)[0, 1])


def test_votes_equal_the_predictions_of_the_network(voter: Voter, segmenter: FewShotSegmenter) -> None:
    queries = [
        SegmentationQuery(1, [["2", "3"], ["4", "5"]]),
        SegmentationQuery(0, [[shot(6)], [shot(7)]]),
        SegmentationQuery(1, [["3"], ["2"], ["6"]]),
    ]
    votes = voter.vote(CANVASES, queries, make_views(flip=True, scales=(1.0,)))
    assert [maps.shape for maps in votes] == [(2, 2, SIZE, SIZE), (2, 2, SIZE, SIZE), (2, 3, SIZE, SIZE)]
    for query, maps in zip(queries, votes, strict=True):
        for r, supports in enumerate(query.sets):
            shots = [shot(int(s)) if isinstance(s, str) else s for s in supports]
            canvas = CANVASES[query.index]
            assert np.allclose(maps[0, r], probability(segmenter, canvas, shots), atol=1e-4)
            mirrored = probability(segmenter, np.ascontiguousarray(canvas[:, ::-1]), shots)[:, ::-1]
            assert np.allclose(maps[1, r], mirrored, atol=1e-4)


def test_a_learner_that_sees_crops_votes_as_it_predicts() -> None:
    density = create_segmenter(learner="density", backbone="mobilenet_v2", image_size=SIZE, frozen=True).eval()
    (votes,) = Voter(density, lambda name: shot(int(name))).vote(
        CANVASES, [SegmentationQuery(1, [["2", "3"]])], [View()]
    )
    assert np.allclose(votes[0, 0], probability(density, CANVASES[1], [shot(2), shot(3)]), atol=1e-4)


def test_each_support_is_encoded_once_and_the_cache_changes_no_bit(voter: Voter, segmenter: FewShotSegmenter) -> None:
    queries = [SegmentationQuery(0, [["2", "3"], ["4", "2"]]), SegmentationQuery(1, [["3", "4"], ["2", "4"]])]
    first = voter.vote(CANVASES, queries, (View(),))
    assert voter.encoded == 2 + 3
    again = voter.vote(CANVASES, queries, (View(),))
    assert voter.encoded == 2 + 3 + 2
    other = Voter(segmenter, lambda name: shot(int(name)))
    other.vote(CANVASES, [SegmentationQuery(0, [["4"], ["9"]])], (View(),))
    warm = other.vote(CANVASES, queries, (View(),))
    for votes in (again, warm):
        assert all((a == b).all() for a, b in zip(first, votes, strict=True))


def test_votes_of_a_smaller_view_have_the_size_of_the_image(voter: Voter) -> None:
    (maps,) = voter.vote(CANVASES, [SegmentationQuery(0, [["2"], ["3"]])], (View(), View(scale=0.75)))
    assert maps.shape == (2, 2, SIZE, SIZE) and not np.allclose(maps[0], maps[1])
    assert voter.encoded == 2 * (2 + 2)


def test_images_of_the_bank_are_read_once(segmenter: FewShotSegmenter) -> None:
    reads: Counter[str] = Counter()

    def read(name: str) -> Shot:
        reads[name] += 1
        return shot(int(name))

    voter = Voter(segmenter, read, cache_gb=0)  # pixels are cached, features are not
    for _ in range(2):
        voter.vote(CANVASES, [SegmentationQuery(0, [["2", "3"], ["3", "2"]])], (View(), View(flip=True)))
    assert reads == {"2": 1, "3": 1}


def test_no_queries_need_no_computation(voter: Voter) -> None:
    assert voter.vote(CANVASES, [], (View(),)) == [] and voter.encoded == 0
