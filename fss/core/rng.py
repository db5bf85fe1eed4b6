"""Keyed random numbers: the same key gives the same numbers, whatever the worker count, order or resume.

All random numbers of the project come from these generators. Two decisions share numbers only when seed, epoch,
item and purpose all agree, so the split, the crop and the colour jitter of one photograph never share a stream.
"""

import hashlib

import numpy as np


def keyed_rng(seed: int, *, epoch: int = 0, item: str | int = 0, purpose: str) -> np.random.Generator:
    """Return a counter-based generator (Philox) keyed by ``(seed, epoch, item, purpose)``.

    Args:
        seed: the run's seed.
        epoch: pass over the data; 0 if there are no epochs.
        item: image id or episode number that the numbers are for.
        purpose: use of the numbers, such as ``"split.cut"``; different purposes are independent.
    """
    key = hashlib.sha256(f"{seed}\x1f{epoch}\x1f{type(item).__name__}\x1f{item}\x1f{purpose}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(key[:16], dtype=np.uint64)))
