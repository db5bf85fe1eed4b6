"""Networks that are small enough for a test."""

import torch
from torch import Tensor, nn

from fss.models import FewShotSegmenter, SegmenterConfig
from fss.models.learners.masksplit import MaskSplit


def from_equal_chances(config: SegmenterConfig, *, seed: int) -> FewShotSegmenter:
    """Build a MaskSplit network whose last layer is drawn from ``seed`` and favours neither class.

    An untrained network calls everything background otherwise.
    """
    network = FewShotSegmenter.from_config(config)
    assert isinstance(network.learner, MaskSplit)
    norm, last = network.learner.decoder[-3], network.learner.decoder[-1]
    assert isinstance(norm.bias, nn.Parameter) and isinstance(last, nn.Conv2d)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        norm.bias.zero_()
        last.reset_parameters()
    return network


class TinySegmenter(nn.Module):
    """Compares the query's pixels with the mean colour of the support's object."""

    def __init__(self, *, normalise: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.head = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
        self.norm = nn.BatchNorm2d(3) if normalise else nn.Identity()
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, query: Tensor, support_images: Tensor, support_masks: Tensor) -> Tensor:
        masks = support_masks[:, :, None]
        colour = (support_images * masks).sum((1, 3, 4)) / masks.sum((1, 3, 4)).clamp(min=1)
        query = self.norm(query)
        logits: Tensor = self.head(torch.cat([query, colour[:, :, None, None].expand_as(query)], 1))
        return logits
