"""Episode plans: balanced, without repeats, independent of order, saved and named by a hash."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fss.episodes import episode_plan
from fss.episodes.episode_plan import EpisodePlan, EpisodeSampler, make_plan, split_small_classes


class Entry(NamedTuple):
    image_id: str


def index(classes: int = 3, images: int = 6) -> dict[int, list[Entry]]:
    return {c: [Entry(f"{c}-{n}") for n in range(images)] for c in range(1, classes + 1)}


def test_classes_are_balanced_and_nothing_repeats_within_an_episode() -> None:
    plan = make_plan(index(), episodes=31, shots=5, seed=0)
    counts = [sum(episode.class_id == c for episode in plan) for c in plan.classes]
    assert sorted(counts) == [10, 10, 11]
    for episode in plan:
        names = {episode.query_id, *episode.support_ids}
        assert len(names) == 6
        assert {name.split("-")[0] for name in names} == {str(episode.class_id)}


def test_queries_are_drawn_from_all_images() -> None:
    plan = make_plan(index(classes=1), episodes=600, shots=1, seed=0)
    counts = [sum(episode.query_id == f"1-{n}" for episode in plan) for n in range(6)]
    assert min(counts) > 70  # 100 expected each
    assert {episode.support_ids[0] for episode in plan} == plan.image_ids()


def test_an_episode_depends_on_its_number_and_not_on_order_or_length() -> None:
    reversed_index = {c: list(reversed(entries)) for c, entries in reversed(index().items())}
    plan = make_plan(index(), episodes=20, shots=2, seed=3)
    assert make_plan(reversed_index, episodes=40, shots=2, seed=3).episodes[:20] == plan.episodes
    assert make_plan(index(), episodes=20, shots=2, seed=4).episodes != plan.episodes


def test_fewer_shots_keep_the_queries_and_the_first_supports() -> None:
    five, one = (make_plan(index(), episodes=20, shots=k, seed=0) for k in (5, 1))
    assert [(e.query_id, e.support_ids[0]) for e in five] == [(e.query_id, e.support_ids[0]) for e in one]


def test_every_entry_is_the_query_once_in_a_pass() -> None:
    uneven = {1: [Entry(f"1-{n}") for n in range(3)], 2: [Entry(f"2-{n}") for n in range(30)], 5: index()[3]}
    entries = {(c, entry.image_id) for c, of_class in uneven.items() for entry in of_class}
    sampler, fewer = (EpisodeSampler(uneven, uneven, shots, "entries") for shots in (2, 1))
    first, second = ([sampler.draw(number, 7) for number in range(39 * p, 39 * (p + 1))] for p in (0, 1))
    for passed in (first, second):
        assert {(e.class_id, e.query_id) for e in passed} == entries and len(passed) == len(entries)
        assert all(len({e.query_id, *e.support_ids}) == 3 for e in passed)
    assert [e.query_id for e in first] != [e.query_id for e in second]
    assert sampler.draw(50, 7) == second[11], "an episode depends on its number alone"
    assert fewer.draw(50, 7).support_ids == second[11].support_ids[:1]
    supports = Counter(sampler.draw(n, 7).support_ids[0] for n in range(3900) if sampler.draw(n, 7).class_id == 1)
    assert len(supports) == 3 and min(supports.values()) > 60  # 100 expected each


def test_large_classes_are_sampled_without_a_permutation_of_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode_plan, "PERMUTED", 5)
    five, one = (make_plan(index(), episodes=600, shots=k, seed=0) for k in (5, 1))
    assert all(len({e.query_id, *e.support_ids}) == 6 for e in five)
    assert [(e.query_id, e.support_ids[0]) for e in five] == [(e.query_id, e.support_ids[0]) for e in one]
    counts = Counter(episode.query_id for episode in one)
    assert len(counts) == 18 and min(counts.values()) > 15  # 33 expected each


def test_saving_keeps_everything_and_the_hash_names_it(tmp_path: Path) -> None:
    plan = make_plan(index(), classes=[1, 3], episodes=10, shots=2, seed=0, fingerprint="abc")
    plan.save(str(tmp_path / "plan.parquet"))
    loaded = EpisodePlan.load(str(tmp_path / "plan.parquet"))
    assert loaded == plan
    assert loaded.hash == plan.hash
    assert len({plan.hash, make_plan(index(), episodes=10, shots=2, seed=0, fingerprint="abc").hash}) == 2


def test_the_hash_never_changes_silently() -> None:
    assert make_plan(index(), episodes=10, shots=2, seed=0).hash == "0ce1976d73c7c163"


def test_classes_with_too_few_images_are_named_up_front() -> None:
    short = {1: [Entry("a")], 2: [Entry("b"), Entry("c")], 3: [Entry("d")]}
    with pytest.raises(ValueError, match=r"class 1 has 1, class 3 has 1; .* --skip-small-classes"):
        make_plan(short, episodes=5, shots=1, seed=0)
    with pytest.raises(ValueError, match=r"class 4 has 1 and 75 classes more have too few; use fewer shots"):
        make_plan({c: [Entry("a")] for c in range(80)}, episodes=5, shots=1, seed=0)
    assert split_small_classes(short, [3, 2, 1, 9], 1) == ([2], {1: 1, 3: 1, 9: 0})
    with pytest.raises(ValueError, match="2 shots need 3 images of a class, but none has more than 2"):
        split_small_classes(short, short, 2)
    with pytest.raises(ValueError, match="class 9 has 0"):
        make_plan(short, classes=[2, 9], episodes=5, shots=1, seed=0)
    with pytest.raises(ValueError, match="protocol"):
        make_plan(short, classes=[2], episodes=5, shots=1, seed=0, protocol="theirs")


def test_another_table_is_no_plan(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="not an episode plan"):
        EpisodePlan.load(str(tmp_path / "x.parquet"))
