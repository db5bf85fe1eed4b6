"""Sampling protocols of published evaluation code, reproduced exactly where that is possible.

- ``hsnet``: one legacy NumPy generator, seeded once for all episodes (also the protocol of VAT).
- ``ifsl``: the same sampling, but the generator is seeded with the number of each episode (the protocol of ASNet).
- ``masksplit``: the evaluation of MaskSplit (Amac et al., WACV 2022). The released code samples in unseeded workers, so
  its exact episodes cannot be reproduced; the distribution is the same.

:mod:`fss.episodes.benchmarks` builds plans from them; protocol ``ours`` is :func:`fss.episodes.episode_plan.make_plan`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from fss.core.rng import keyed_rng
from fss.episodes.episode_plan import SMALL_CLASSES, small_classes
from fss.episodes.published_lists import EpisodeList

MASKSPLIT_PIXELS = 2048
"""Smallest number of native pixels of a class for an image to represent it in the masksplit protocol."""
_SEED_STEP = 1_000_000
"""Distance between the generator seeds of different seeds of the ifsl protocol; seed 0 gives the published ones."""

EpisodeTuple = tuple[int, str, tuple[str, ...]]
"""Class id, query and supports, as names or ids of images."""


def draw_listed(
    listed: EpisodeList,
    *,
    protocol: Literal["hsnet", "ifsl"],
    shots: int,
    episodes: int | None = None,
    seed: int = 0,
) -> list[EpisodeTuple]:
    """Sample episodes from a list of image names, as the published code does.

    On PASCAL, entry ``i`` of the list, modulo its length, is the query of episode ``i``. On COCO, the class is sampled
    first, then the query. On FSS-1000, entry ``i`` is the query, and supports are sampled by their numbers 1 to 10.
    Supports differ from the query but may repeat.

    Args:
        listed: entries of a fold.
        protocol: name of the protocol.
        shots: supports per episode.
        episodes: number of episodes; None takes 1,000, or every entry once for FSS-1000.
        seed: seed of the sampling.

    Raises:
        ValueError: a class has fewer than 2 images, for which the published code would never terminate, or images of
            FSS-1000 are not numbered 1 to 10.
    """
    pools = listed.names_by_class()
    _check_listed(listed, pools)
    draw = {"coco": _draw_coco, "fss": _draw_fss}.get(listed.fold.benchmark, _draw_pascal)
    count = episodes or (len(listed.entries) if listed.fold.benchmark == "fss" else 1000)
    states = _one_stream(seed) if protocol == "hsnet" else _stream_per_episode(seed)
    return [draw(listed, pools, number, next(states), shots) for number in range(count)]


def draw_masksplit(pools: Mapping[int, Sequence[str]], *, shots: int, episodes: int, seed: int) -> list[EpisodeTuple]:
    """Sample episodes as the evaluation of MaskSplit does, with keyed random numbers.

    The query is uniform over the images that show any test class, the class is uniform over the test classes in the
    query, and the supports are uniform over the other images of the class, without replacement.

    Args:
        pools: image ids by test class.
        shots: supports per episode.
        episodes: number of episodes.
        seed: seed of the sampling.

    Raises:
        ValueError: a class does not have more images than shots.
    """
    if short := small_classes({class_id: len(pool) for class_id, pool in pools.items()}, shots):
        raise ValueError(
            f"{shots} shots need {shots + 1} images with at least {MASKSPLIT_PIXELS} pixels of every class, but "
            f"{short}; {SMALL_CLASSES}"
        )
    members = {class_id: sorted(pool) for class_id, pool in sorted(pools.items())}
    classes_in: dict[str, list[int]] = {}
    for class_id, pool in members.items():
        for image in pool:
            classes_in.setdefault(image, []).append(class_id)
    images = sorted(classes_in)
    tuples = []
    for number in range(episodes):
        rng = keyed_rng(seed, item=number, purpose="plan.masksplit")
        query = images[int(rng.integers(len(images)))]
        class_id = classes_in[query][int(rng.integers(len(classes_in[query])))]
        others = [image for image in members[class_id] if image != query]
        supports = tuple(others[int(position)] for position in rng.choice(len(others), shots, replace=False))
        tuples.append((class_id, query, supports))
    return tuples


def _one_stream(seed: int) -> Iterator[np.random.RandomState]:
    state = np.random.RandomState(seed)
    while True:
        yield state


def _stream_per_episode(seed: int) -> Iterator[np.random.RandomState]:
    number = seed * _SEED_STEP
    while True:
        yield np.random.RandomState(number)
        number += 1


def _pick(state: np.random.RandomState, pool: Sequence[str]) -> str:
    # the published code samples without replacement, which permutes the whole pool and differs from randint
    return pool[int(state.choice(len(pool), 1, replace=False)[0])]


def _supports(query: str, shots: int, draw: Callable[[], str]) -> tuple[str, ...]:
    supports: list[str] = []
    while len(supports) < shots:
        support = draw()
        if support != query:
            supports.append(support)
    return tuple(supports)


def _draw_pascal(
    listed: EpisodeList, pools: Mapping[int, list[str]], number: int, state: np.random.RandomState, shots: int
) -> EpisodeTuple:
    query, class_id = listed.entries[number % len(listed.entries)]
    return class_id, query, _supports(query, shots, lambda: _pick(state, pools[class_id]))


def _draw_coco(
    listed: EpisodeList, pools: Mapping[int, list[str]], number: int, state: np.random.RandomState, shots: int
) -> EpisodeTuple:
    class_id = listed.fold.test[int(state.choice(len(listed.fold.test), 1, replace=False)[0])]
    query = _pick(state, pools[class_id])
    return class_id, query, _supports(query, shots, lambda: _pick(state, pools[class_id]))


def _draw_fss(
    listed: EpisodeList, pools: Mapping[int, list[str]], number: int, state: np.random.RandomState, shots: int
) -> EpisodeTuple:
    query, class_id = listed.entries[number % len(listed.entries)]
    folder = query.rsplit("/", 1)[0]
    return class_id, query, _supports(query, shots, lambda: f"{folder}/{state.choice(10, 1, replace=False)[0] + 1}")


def _check_listed(listed: EpisodeList, pools: Mapping[int, list[str]]) -> None:
    by_position = listed.fold.benchmark in ("pascal", "coco-to-pascal")
    short = [str(c) for c, pool in pools.items() if len(set(pool)) < 2 and (pool or not by_position)]
    if short or not listed.entries:
        raise ValueError(
            f"every class needs at least 2 images, but class {', '.join(short) or 'none'} has fewer; "
            "leave it out or add images"
        )
    if listed.fold.benchmark == "fss":
        expected = {str(number) for number in range(1, 11)}
        mismatched = [c for c, pool in pools.items() if {name.rsplit("/", 1)[1] for name in pool} != expected]
        if mismatched:
            raise ValueError(
                f"the protocol of FSS-1000 needs images 1 to 10 of a class, but {len(mismatched)} classes have others, "
                f"such as class {mismatched[0]}: {sorted(pools[mismatched[0]])[:12]}; use protocol 'ours'"
            )
