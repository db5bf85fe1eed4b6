"""Keyed draws: equal keys agree, any other key is independent."""

import numpy as np

from fss.core.rng import keyed_rng, keyed_uniforms


def test_the_same_key_gives_the_same_numbers() -> None:
    first, second = (keyed_rng(1, epoch=2, item="x", purpose="p").random(5) for _ in range(2))
    assert np.array_equal(first, second)


def test_every_part_of_the_key_matters() -> None:
    keys = [(1, 0, "1", "p"), (2, 0, "1", "p"), (1, 1, "1", "p"), (1, 0, "2", "p"), (1, 0, "1", "q"), (1, 0, 1, "p")]
    draws = {float(keyed_rng(s, epoch=e, item=i, purpose=p).random()) for s, e, i, p in keys}
    assert len(draws) == len(keys)


def test_draws_are_the_same_on_every_machine() -> None:
    # Written down once: a change of numpy or of the key derivation would silently change every run.
    value = keyed_rng(0, epoch=0, item="photo", purpose="test").integers(0, 1_000_000, 3)
    assert np.array_equal(value, [626024, 557081, 378195])


def test_uniforms_of_many_items_are_those_of_their_generators() -> None:
    items = ["a", "b", "photo"]
    expected = [keyed_rng(3, item=item, purpose="p").random() for item in items]
    assert keyed_uniforms(3, items, purpose="p").tolist() == expected
    assert keyed_uniforms(3, [], purpose="p").shape == (0,)
