"""The published protocols draw what their description says, number for number."""

import numpy as np
import pytest

from fss.episodes.folds import Fold, coco_fold, pascal_fold
from fss.episodes.protocols import draw_listed, draw_masksplit
from fss.episodes.published_lists import Entry, EpisodeList

FIRST_OF_FIFTY = (28, 2, 7, 36, 4)
"""RandomState(0): the first of each of five permutations of 50, worked by hand."""


@pytest.fixture(autouse=True)
def _keep_the_global_generator():
    state = np.random.get_state()
    yield
    np.random.set_state(state)


def _pascal(per_class, fold=0):
    entries = [Entry(f"{c}-{i:03d}", c) for i in range(per_class) for c in pascal_fold(fold).test]
    return EpisodeList(fold=pascal_fold(fold), entries=tuple(entries), origin="published")


def _coco(per_class, fold=0):
    entries = [Entry(f"{c}-{i:03d}", c) for c in coco_fold(fold).test for i in range(per_class)]
    return EpisodeList(fold=coco_fold(fold), entries=tuple(entries), origin="published")


def _fss(classes):
    fold = Fold(benchmark="fss", number=None, train=(), test=tuple(range(1, classes + 1)))
    entries = [Entry(f"class{c}/{i}", c) for c in fold.test for i in sorted(range(1, 11), key=str)]
    return EpisodeList(fold=fold, entries=tuple(entries), origin="published")


def _transcribed(listed, shots, episodes, per_episode):
    """The description, word for word, on numpy's global generator."""
    pools = listed.names_by_class()
    rows = []
    np.random.seed(0)
    for idx in range(episodes):
        if per_episode:
            np.random.seed(idx)
        if listed.fold.benchmark == "pascal":
            query, class_id = listed.entries[idx % len(listed.entries)]
        elif listed.fold.benchmark == "coco":
            class_id = int(np.random.choice(np.array(listed.fold.test), 1, replace=False)[0])
            query = str(np.random.choice(pools[class_id], 1, replace=False)[0])
        else:
            query, class_id = listed.entries[idx]
        supports = []
        while True:
            if listed.fold.benchmark == "fss":
                number = np.random.choice(range(1, 11), 1, replace=False)[0]
                support = f"{query.split('/')[0]}/{number}"
            else:
                support = str(np.random.choice(pools[class_id], 1, replace=False)[0])
            if query != support:
                supports.append(support)
            if len(supports) == shots:
                break
        rows.append((class_id, query, tuple(supports)))
    return rows


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("protocol", ["hsnet", "ifsl"])
@pytest.mark.parametrize("listed", [_pascal(30), _coco(12, 2), _fss(6)], ids=["pascal", "coco", "fss"])
def test_draws_equal_a_transcription_on_the_global_generator(listed, protocol, shots):
    count = 60
    expected = _transcribed(listed, shots, count, protocol == "ifsl")
    np.random.seed(123)
    before = np.random.get_state()[1].copy()
    assert draw_listed(listed, protocol=protocol, shots=shots, episodes=count) == expected
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_hsnet_supports_follow_the_hand_worked_numbers():
    listed = _pascal(50)
    drawn = draw_listed(listed, protocol="hsnet", shots=1, episodes=5)
    classes = pascal_fold(0).test
    expected = [(c, f"{c}-000", (f"{c}-{i:03d}",)) for c, i in zip(classes, FIRST_OF_FIFTY, strict=True)]
    assert drawn == expected


def test_a_draw_of_the_query_itself_is_drawn_again():
    # of two images each draw is a coin: heads again and again until it shows the other one
    pair = EpisodeList(fold=pascal_fold(0), entries=(Entry("a", 1), Entry("b", 1)), origin="given")
    state = np.random.RandomState(0)
    coins = ["ab"[state.choice(2, 1, replace=False)[0]] for _ in range(400)]
    drawn = draw_listed(pair, protocol="hsnet", shots=1, episodes=50)
    assert drawn == [(1, query, (other,)) for query, other in [("a", "b"), ("b", "a")] * 25]
    used = 0
    for _, query, _ in drawn:
        while coins[used] == query:
            used += 1
        used += 1
    assert used > 60  # the coins of the queries were spent, not skipped
    (_, _, supports) = draw_listed(pair, protocol="hsnet", shots=5, episodes=1)[0]
    assert supports == ("b",) * 5


def test_ifsl_episodes_depend_on_their_number_only():
    listed = _coco(9)
    long = draw_listed(listed, protocol="ifsl", shots=1, episodes=40)
    assert draw_listed(listed, protocol="ifsl", shots=1, episodes=7) == long[:7]
    assert long != draw_listed(listed, protocol="hsnet", shots=1, episodes=40)
    assert long != draw_listed(listed, protocol="ifsl", shots=1, episodes=40, seed=1)


def test_default_numbers_of_episodes():
    assert len(draw_listed(_coco(3), protocol="hsnet", shots=1)) == 1000
    drawn = draw_listed(_fss(3), protocol="hsnet", shots=1)
    assert [query for _, query, _ in drawn][:3] == ["class1/1", "class1/10", "class1/2"]
    assert len(drawn) == 30


def test_pascal_queries_run_round_the_list():
    listed = _pascal(3)
    drawn = draw_listed(listed, protocol="hsnet", shots=1, episodes=40)
    assert [row[1] for row in drawn[15:30]] == [row[1] for row in drawn[:15]]


def test_endless_draws_are_refused():
    lonely = EpisodeList(fold=pascal_fold(0), entries=(Entry("a", 1), Entry("b", 2), Entry("c", 2)), origin="given")
    with pytest.raises(ValueError, match=r"at least 2 images.*class 1 has fewer"):
        draw_listed(lonely, protocol="hsnet", shots=1)
    few = Fold(benchmark="fss", number=None, train=(), test=(1,))
    entries = tuple(Entry(f"class1/{i}", 1) for i in range(1, 6))
    with pytest.raises(ValueError, match="images 1 to 10"):
        draw_listed(EpisodeList(fold=few, entries=entries, origin="given"), protocol="ifsl", shots=1)


def test_masksplit_draws_query_then_class_then_others():
    pools = {1: ["a", "b", "c"], 2: ["c", "d", "e", "f"]}
    drawn = draw_masksplit(pools, shots=2, episodes=600, seed=3)
    assert all(
        query in pools[c] and query not in s and len(set(s)) == 2 and set(s) <= set(pools[c]) for c, query, s in drawn
    )
    often = {name: sum(query == name for _, query, _ in drawn) for name in "abcdef"}
    assert min(often.values()) > 65  # uniform over images: 100 each
    both = [c for c, query, _ in drawn if query == "c"]
    assert 0.3 < both.count(1) / len(both) < 0.7
    assert drawn[:5] == draw_masksplit(pools, shots=2, episodes=5, seed=3)
    with pytest.raises(ValueError, match="class 1 has 3"):
        draw_masksplit(pools, shots=3, episodes=1, seed=0)
