"""Keyed random numbers: the same key gives the same numbers, whatever the worker count, order or resume.

All random numbers of the project come from these generators. Two decisions share numbers only when seed, epoch,
item and purpose all agree, so the split, the crop and the colour jitter of one photograph never share a stream.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def keyed_rng(seed: int, *, epoch: int = 0, item: str | int = 0, purpose: str) -> np.random.Generator:
    """Return a counter-based generator (Philox) keyed by ``(seed, epoch, item, purpose)``.

    Args:
        seed: the run's seed.
        epoch: pass over the data; 0 if there are no epochs.
        item: image id or episode number that the numbers are for.
        purpose: use of the numbers, such as ``"split.cut"``; different purposes are independent.
    """
    return np.random.Generator(np.random.Philox(key=np.frombuffer(_digest(seed, epoch, item, purpose), np.uint64)))


def keyed_uniforms(seed: int, items: Iterable[str], *, purpose: str) -> NDArray[np.float64]:
    """Return ``keyed_rng(seed, item=item, purpose=purpose).random()`` of each item, float64 [N], five times as fast."""
    bits = np.random.Philox(key=0)
    generator, state = np.random.Generator(bits), bits.state
    values = []
    digests = b"".join(_digest(seed, 0, item, purpose) for item in items)
    for key in np.frombuffer(digests, np.uint64).reshape(-1, 2):
        state["state"]["key"] = key
        bits.state = state
        values.append(generator.random())
    return np.array(values, np.float64)


def keyed_order(seed: int, items: Iterable[str], *, purpose: str) -> NDArray[np.int64]:
    """Return the permutation that sorts items by the keys of their generators, int64 [N].

    The order of two items depends on nothing but themselves.
    """
    keys = b"".join(_digest(seed, 0, item, purpose) for item in items)
    return np.argsort(np.frombuffer(keys, ">u8").reshape(-1, 2)[:, 0], kind="stable")


def _digest(seed: int, epoch: int, item: str | int, purpose: str) -> bytes:
    """Return the 16 bytes of a generator's key."""
    text = f"{seed}\x1f{epoch}\x1f{type(item).__name__}\x1f{item}\x1f{purpose}"
    return hashlib.sha256(text.encode()).digest()[:16]
