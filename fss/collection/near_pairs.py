"""Pairs of 64-bit hashes that differ in a few bits, and which of the pictures repeat an earlier one.

The hashes are divided into bands. Two hashes that differ in d bits agree in all but d bands, so sorting by every choice
of the other bands brings them together (G. S. Manku et al., "Detecting Near-Duplicates for Web Crawling", 2007). A key
has about as many bits as tell the hashes apart, so the work grows little faster than their number: 27 s of CPU time for
a million hashes in seven orientations, where faiss.IndexBinaryMultiHash takes 380 s in one.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fss.collection.config import MOST_DUPLICATE_DISTANCE
from fss.images.perceptual_hash import Hashes, turned

_BITS = 64
_CANDIDATES = 2**22  # pairs that are compared at a time
Integers = NDArray[np.int64]


def find_originals(hashes: Hashes, *, distance: int, kept: int = 0) -> tuple[Integers, Integers]:
    """Return the position of the picture that each one repeats, or -1, and their distance in bits, both int64 [N].

    A picture repeats the first earlier one that is close and repeats none itself, so a chain of similar pictures is
    not a single group.

    Args:
        hashes: hashes in the order of the pictures.
        distance: largest number of bits in which near-duplicates differ.
        kept: number of pictures at the beginning that repeat none in any case.
    """
    values, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    neighbours = _neighbours(values, distance)
    originals = np.where(first < kept, first, -1)  # position of the picture that each value belongs to
    distances = np.zeros(len(values), np.int64)
    owns = first < kept
    for value in np.argsort(first).tolist():
        if owns[value]:
            continue
        close = [(int(first[other]), bits) for other, bits in neighbours.get(value, {}).items() if owns[other]]
        owns[value] = not close
        originals[value], distances[value] = min(close) if close else (first[value], 0)
    repeats = (originals[inverse] != np.arange(len(hashes))) & (np.arange(len(hashes)) >= kept)
    return np.where(repeats, originals[inverse], -1), np.where(repeats, distances[inverse], 0)


def _neighbours(values: Hashes, distance: int) -> dict[int, dict[int, int]]:
    """Return by position of a hash those of the close ones, with their distances."""
    neighbours: dict[int, dict[int, int]] = {}
    for one, other, bits in near_pairs(values, distance):
        for left, right, count in zip(one.tolist(), other.tolist(), bits.tolist(), strict=True):
            for mine, yours in ((left, right), (right, left)):
                close = neighbours.setdefault(mine, {})
                close[yours] = min(count, close.get(yours, count))
    return neighbours


def near_pairs(values: Hashes, distance: int) -> Iterator[tuple[Integers, Integers, Integers]]:
    """Yield positions and distances of pairs of distinct hashes that are close, turned or not; a pair may be repeated.

    Raises:
        ValueError: the distance is not allowed.
    """
    if not 0 <= distance <= MOST_DUPLICATE_DISTANCE:
        raise ValueError(f"a distance of near-duplicates is from 0 to {MOST_DUPLICATE_DISTANCE} bits, got {distance}")
    variants = [values, *turned(values)]
    for chosen, bands in _choices(distance, len(values)):
        keys = _key(values, chosen, bands)
        order = np.argsort(keys)
        for variant in variants:
            other_keys = _key(variant, chosen, bands)
            other_order = np.argsort(other_keys)
            for left, right in _matches(keys[order], other_keys[other_order]):
                one, other = order[left], other_order[right]
                bits = np.bitwise_count(values[one] ^ variant[other]).astype(np.int64)
                close = (bits <= distance) & (one != other)
                if variant is values:
                    close &= one < other
                if close.any():
                    yield one[close], other[close], bits[close]


def _choices(distance: int, count: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield the choices of bands whose bits make a key, and the number of all bands."""
    needed = max(1, int(count).bit_length())
    kept = next((kept for kept in range(1, 8) if kept * (_BITS // (distance + kept)) >= needed), 7)
    for chosen in combinations(range(distance + kept), kept):
        yield chosen, distance + kept


def _key(values: Hashes, chosen: tuple[int, ...], bands: int) -> Hashes:
    """Return the bits of some bands, uint64 [N]."""
    width, mask = np.uint64(_BITS // bands), np.uint64(2 ** (_BITS // bands) - 1)
    key = np.zeros(len(values), np.uint64)
    for band in chosen:  # a shift by 64, the width of a single band, is undefined
        key = (key << width if len(chosen) > 1 else key) | ((values >> (width * np.uint64(band))) & mask)
    return key


def _matches(one: Hashes, other: Hashes) -> Iterator[tuple[Integers, Integers]]:
    """Yield positions of equal values in two sorted arrays, some millions at a time."""
    first = np.searchsorted(other, one, side="left")
    counts = np.searchsorted(other, one, side="right") - first
    rows = np.flatnonzero(counts)
    ends = np.cumsum(counts[rows])
    start = 0
    while start < len(rows):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CANDIDATES, side="right")))
        some = rows[start:stop]
        left = np.repeat(some, counts[some])
        offsets = np.arange(len(left)) - np.repeat(np.cumsum(counts[some]) - counts[some], counts[some])
        yield left, first[left] + offsets
        start = stop
