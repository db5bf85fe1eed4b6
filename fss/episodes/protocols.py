"""The draws of published evaluation code, repeated number for number.

- ``hsnet``: one legacy generator of numpy, seeded once; episodes follow each other (also VAT's protocol).
- ``ifsl``: the same draws, but the generator is seeded with the episode's number before each (ASNet's protocol).
- ``masksplit``: MaskSplit's evaluation (Amac et al., WACV 2022). The released code draws from unseeded workers, so its
  very episodes cannot be repeated; the way of drawing is followed.

:mod:`fss.episodes.benchmarks` makes plans of them; protocol ``ours`` is :func:`fss.episodes.episode_plan.make_plan`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from fss.core.rng import keyed_rng
from fss.episodes.published_lists import EpisodeList

MASKSPLIT_PIXELS = 2048
"""An image stands for a class in the masksplit protocol when the class covers at least so many native pixels."""
_SEED_STEP = 1_000_000
"""Keeps the ifsl protocol's seeds of different runs apart; seed 0 gives the published ones."""

EpisodeTuple = tuple[int, str, tuple[str, ...]]
"""Class id, query and supports, by name or by id."""


def draw_listed(
    listed: EpisodeList,
    *,
    protocol: Literal["hsnet", "ifsl"],
    shots: int,
    episodes: int | None = None,
    seed: int = 0,
) -> list[EpisodeTuple]:
    """Draw episodes by name from a list, as the published code does.

    PASCAL (COCO's models on it too): episode ``i`` takes entry ``i`` of the list, modulo its length, as query. COCO:
    the class is drawn, then the query. FSS-1000: entry ``i`` is the query, and supports are drawn by their numbers 1
    to 10. Supports differ from the query but may repeat.

    Raises:
        ValueError: a class with fewer than 2 images (the published code would draw for ever), or an image number that
            FSS-1000's layout lacks.
    """
    pools = listed.names_by_class()
    _check_listed(listed, pools)
    draw = {"coco": _draw_coco, "fss": _draw_fss}.get(listed.fold.benchmark, _draw_pascal)
    count = episodes or (len(listed.entries) if listed.fold.benchmark == "fss" else 1000)
    states = _one_stream(seed) if protocol == "hsnet" else _stream_per_episode(seed)
    return [draw(listed, pools, number, next(states), shots) for number in range(count)]


def draw_masksplit(pools: Mapping[int, Sequence[str]], *, shots: int, episodes: int, seed: int) -> list[EpisodeTuple]:
    """Draw episodes as MaskSplit's evaluation does, with keyed draws.

    The query is uniform over the images that show any test class, the class uniform over the test classes in it, the
    supports uniform over the class's other images, without repeats.

    Args:
        pools: images of each test class.
        shots: supports per episode.
        episodes: how many.
        seed: of the draws.

    Raises:
        ValueError: a class with no more images than shots.
    """
    short = [f"{class_id} has {len(pool)}" for class_id, pool in pools.items() if len(pool) <= shots]
    if short:
        raise ValueError(
            f"{shots} shots need {shots + 1} images with at least {MASKSPLIT_PIXELS} pixels of every class, but class "
            f"{', class '.join(short)}; leave these classes out, take fewer shots or add images"
        )
    members = {class_id: sorted(pool) for class_id, pool in sorted(pools.items())}
    classes_in: dict[str, list[int]] = {}
    for class_id, pool in members.items():
        for image in pool:
            classes_in.setdefault(image, []).append(class_id)
    images = sorted(classes_in)
    drawn = []
    for number in range(episodes):
        rng = keyed_rng(seed, item=number, purpose="plan.masksplit")
        query = images[int(rng.integers(len(images)))]
        class_id = classes_in[query][int(rng.integers(len(classes_in[query])))]
        others = [image for image in members[class_id] if image != query]
        supports = tuple(others[int(place)] for place in rng.choice(len(others), shots, replace=False))
        drawn.append((class_id, query, supports))
    return drawn


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
    # the published code draws without replacement, which permutes the whole pool: other numbers than randint's
    return pool[int(state.choice(len(pool), 1, replace=False)[0])]


def _supports(query: str, shots: int, draw: Callable[[], str]) -> tuple[str, ...]:
    kept: list[str] = []
    while len(kept) < shots:
        support = draw()
        if support != query:
            kept.append(support)
    return tuple(kept)


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
            f"every class needs at least 2 images to draw from; class {', '.join(short) or 'none'} has not"
        )
    if listed.fold.benchmark == "fss":
        wanted = {str(number) for number in range(1, 11)}
        odd = [c for c, pool in pools.items() if {name.rsplit("/", 1)[1] for name in pool} != wanted]
        if odd:
            raise ValueError(
                f"FSS-1000's protocol draws images 1 to 10 of a class, but {len(odd)} classes have others, such as "
                f"class {odd[0]}: {sorted(pools[odd[0]])[:12]}; use protocol 'ours'"
            )
