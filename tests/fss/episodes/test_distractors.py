"""Distractors: another task's object, pasted behind the query's own, is background."""

import numpy as np
import torch

from fss.episodes.distractors import draw_placement, paste_distractors


def two_queries() -> tuple[torch.Tensor, torch.Tensor]:
    query = torch.zeros(2, 3, 8, 8)
    target = torch.zeros(2, 8, 8, dtype=torch.uint8)
    query[0] += 1.0
    query[1] += 2.0
    target[0, :4, :4] = 1
    target[1, 4:, 4:] = 255  # an ignored half belongs to the object too
    return query, target


def test_the_partners_object_is_pasted_in_place_as_background() -> None:
    query, target = two_queries()
    placements = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    pasted, truth = paste_distractors(query, target, torch.tensor([1, 0]), placements)
    assert (pasted[0, :, 4:, 4:] == 2).all() and (pasted[0, :, :4] == 1).all()
    assert torch.equal(truth, target)
    assert torch.equal(pasted[1], query[1])  # scale 0 pastes nothing


def test_the_object_of_the_query_stays_in_front() -> None:
    query, target = two_queries()
    pasted, _ = paste_distractors(
        query, target, torch.tensor([1, 0]), torch.tensor([[1.0, -1.0, -1.0], [0.0, 0.0, 0.0]])
    )
    assert torch.equal(pasted[0], query[0])  # shifted by 4 pixels, it lies wholly behind the object


def test_a_shift_moves_the_object_and_a_scale_shrinks_it() -> None:
    query, target = two_queries()
    pasted, _ = paste_distractors(
        query, target, torch.tensor([1, 0]), torch.tensor([[1.0, -0.5, 0.0], [0.0, 0.0, 0.0]])
    )
    assert (pasted[0, 0] == 2).nonzero().tolist() == [[y, x] for y in range(4, 8) for x in range(2, 6)]
    small, _ = paste_distractors(query, target, torch.tensor([1, 0]), torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.0, 0.0]]))
    assert int((small[0, 0] == 2).sum()) == 4


def test_placements_are_keyed_and_as_frequent_as_asked() -> None:
    draws = [draw_placement(0.3, seed=1, epoch=0, item=str(i)) for i in range(400)]
    share = np.mean([draw[0] > 0 for draw in draws])
    assert 0.2 < share < 0.4
    assert np.array_equal(draws[7], draw_placement(0.3, seed=1, epoch=0, item="7"))
    assert not draw_placement(0.0, seed=1, epoch=0, item="7").any()
