"""A MaskSplit network that finds something without training: a new one calls everything background."""

import torch

from fss.models import FewShotSegmenter, SegmenterConfig
from fss.models.learners.masksplit import MaskSplit


def from_equal_chances(config: SegmenterConfig, *, seed: int) -> FewShotSegmenter:
    """Build a network of random weights whose last layer is drawn from ``seed``, favouring neither class."""
    network = FewShotSegmenter.from_config(config)
    assert isinstance(network.learner, MaskSplit)
    norm, last = network.learner.decoder[-3], network.learner.decoder[-1]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        norm.bias.zero_()
        last.reset_parameters()
    return network
