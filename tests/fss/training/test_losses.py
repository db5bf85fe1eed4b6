"""The loss: by hand, and the same training on one worker and on two."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from fss.training.losses import count_valid_pixels, cross_entropy_sum, sum_over_workers, world_size
from tests.helpers.networks import TinySegmenter
from tests.helpers.processes import train_on_two_workers

SIZE = 8


def episodes() -> tuple[torch.Tensor, ...]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        query, support = torch.randn(4, 3, SIZE, SIZE), torch.randn(4, 1, 3, SIZE, SIZE)
        masks, target = (torch.rand(4, 1, SIZE, SIZE) > 0.5).float(), torch.randint(0, 2, (4, SIZE, SIZE))
    target[0, :6] = 255  # workers have different numbers of valid pixels
    return query, support, masks, target


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


def _train(rank: int, world: int, folder: str) -> None:
    model: torch.nn.Module = TinySegmenter()
    if world > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.5)
    query, support, masks, target = (tensor[rank::world] for tensor in episodes())
    means = []
    for _ in range(3):
        optimizer.zero_grad()
        loss, pixels = cross_entropy_sum(model(query, support, masks), target), count_valid_pixels(target)
        (loss * world_size() / pixels).backward()
        optimizer.step()
        means.append(float(sum_over_workers(loss.detach()) / pixels))
    torch.save(means, Path(folder) / f"{world}-{rank}.pt")


def test_two_workers_train_as_one_does(tmp_path: Path) -> None:
    _train(0, 1, str(tmp_path))
    train_on_two_workers(_train, str(tmp_path))
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    assert first == second
    assert first == pytest.approx(one, rel=1e-5)
    assert one[2] < one[0]
