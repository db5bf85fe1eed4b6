"""Keyed random draws: the same key gives the same numbers, whatever the worker count, order or resume.

Every random decision of the project takes its generator from here. Two decisions share numbers only when seed, epoch,
item and purpose all agree, so a split, a crop and a colour of the same photograph never share a stream.
"""

import hashlib

import numpy as np


def keyed_rng(seed: int, *, epoch: int = 0, item: str | int = 0, purpose: str) -> np.random.Generator:
    """Return a counter-based generator (Philox) keyed by ``(seed, epoch, item, purpose)``.

    Args:
        seed: the run's seed.
        epoch: the pass over the data; 0 where there is none.
        item: what the draw is for: an image id, an episode number.
        purpose: what is drawn, such as ``"split.cut"``; different purposes are independent.
    """
    key = hashlib.sha256(f"{seed}\x1f{epoch}\x1f{type(item).__name__}\x1f{item}\x1f{purpose}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(key[:16], dtype=np.uint64)))
