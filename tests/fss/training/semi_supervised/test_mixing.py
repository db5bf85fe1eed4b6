"""Mixing: half of a picture's pixels, or of its partner's classes, and the partners."""

import numpy as np
import pytest
import torch

from fss.core.rng import keyed_rng
from fss.training.semi_supervised.mixing import (
    DRAWS,
    classmix_area,
    cutmix_area,
    draw_mix,
    of_partners,
    partner_offsets,
    paste,
)


def drawn(*values: float) -> torch.Tensor:
    """Random numbers [1, DRAWS] that begin with these values."""
    draws = torch.zeros(1, DRAWS)
    draws[0, : len(values)] = torch.tensor(values)
    return draws


def test_a_box_covers_half_of_the_picture() -> None:
    # The share of the height is 0.5 ** aspect, that of the width the rest of 0.5.
    full_width, full_height = (cutmix_area(drawn(1, aspect, 0, 0.99), 8, 12)[0] for aspect in (1.0, 0.0))
    assert full_width[:4].all() and not full_width[4:].any()
    assert full_height[:, 6:].all() and not full_height[:, :6].any()
    assert not cutmix_area(drawn(0, 0.5, 0, 0), 8, 12).any(), "a picture that is not mixed"
    areas = [
        cutmix_area(torch.from_numpy(draw_mix(keyed_rng(0, item=n, purpose="test.mix"), 1.0))[None], 40, 60)
        for n in range(50)
    ]
    assert all(float(area.float().mean()) == pytest.approx(0.5, abs=0.03) for area in areas)
    applied = [draw_mix(keyed_rng(0, item=n, purpose="test.mix"), 0.5)[0] for n in range(200)]
    assert set(applied) == {0.0, 1.0} and 0.4 < np.mean(applied) < 0.6


def test_classmix_takes_the_first_half_of_the_partners_classes() -> None:
    partner = torch.tensor([[[0, 2, 5], [255, 7, 2]]], dtype=torch.uint8)
    draws = drawn(1)
    draws[0, 4:] = 1.0
    draws[0, 4 + torch.tensor([2, 5, 0, 7])] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert classmix_area(draws, partner).tolist() == [[[False, True, True], [False, False, True]]]
    draws[0, 0] = 0
    assert not classmix_area(draws, partner).any()


def test_partners_are_in_the_same_group_and_values_are_pasted() -> None:
    offsets = partner_offsets(6, 3)
    numbers = torch.arange(6)
    assert of_partners(numbers, offsets).tolist() == [1, 2, 0, 4, 5, 3]
    assert partner_offsets(3, 1).tolist() == [0, 0, 0]
    values, area = numbers[:, None, None].expand(6, 1, 2), torch.tensor([[[True, False]]]).expand(6, 1, 2)
    assert paste(values, area, offsets)[:, 0].tolist() == [[1, 0], [2, 1], [0, 2], [4, 3], [5, 4], [3, 5]]
    pictures = values[:, None].expand(6, 3, 1, 2)
    assert torch.equal(paste(pictures, area, offsets)[:, 2], paste(values, area, offsets))
