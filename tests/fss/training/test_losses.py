"""The loss by hand; ``few_shot/test_two_workers.py`` compares one worker and two."""

import math

import pytest
import torch

from fss.training.losses import count_valid_pixels, cross_entropy_sum


def test_the_loss_by_hand() -> None:
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 1, 0, 1] = math.log(3)
    target = torch.tensor([[[0, 1, 255, 255]]])
    loss = cross_entropy_sum(logits, target)
    assert float(loss / count_valid_pixels(target)) == pytest.approx((math.log(2) - math.log(0.75)) / 2)


def test_a_batch_without_a_valid_pixel_has_no_loss_and_no_gradient() -> None:
    logits = torch.zeros(1, 2, 2, 2, requires_grad=True)
    target = torch.full((1, 2, 2), 255)
    loss = cross_entropy_sum(logits, target) / count_valid_pixels(target)
    loss.backward()
    assert float(loss) == 0
    assert logits.grad is not None and float(logits.grad.abs().sum()) == 0
