"""The cost of a training step, measured."""

import time

import torch

from fss.core.memory import keep_freed_memory
from fss.models import FewShotSegmenter
from fss.models.config import SegmenterConfig
from fss.models.saliency.network import SaliencyStudent


def measure_step(
    config: SegmenterConfig,
    batch_size: int,
    *,
    device: str = "cpu",
    shots: int = 1,
    prior: SaliencyStudent | None = None,
) -> float:
    """Return the seconds of one training step (forward and backward), from the fastest of three random episodes.

    Args:
        config: the network.
        batch_size: episodes per step; the time of one episode is multiplied by it.
        device: where the network runs.
        shots: supports per episode.
        prior: the saliency prior, if it is not to be loaded from the file that the settings name.
    """
    if device == "cpu":
        keep_freed_memory()  # as a training does
    segmenter = FewShotSegmenter.from_config(config, prior=prior).to(device).train()
    side = config.image_size
    query = torch.randn(1, 3, side, side, device=device)
    supports = torch.randn(1, shots, 3, side, side, device=device)
    masks = torch.zeros(1, shots, side, side, device=device)
    masks[..., : side // 2] = 1
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        segmenter(query, supports, masks).mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:]) * batch_size  # the first one warms up, and other programs disturb some
