"""The parts of a source: order, sizes, and the classes that a training on them meets."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from fss.collection import ingest_local
from fss.collection.config import SourceConfig
from fss.collection.division import PART_BYTES, divide
from fss.collection.sources import Listing, SourceItem
from tests.helpers.mixing import BATCH, shown_classes, uniform_classes, write_source


def files(count: int, size: int | None = 20_000) -> Listing:
    items = [SourceItem(relative_path=f"{number // 10}/{number}.jpg", uri=f"/s/{number}") for number in range(count)]
    return Listing(items=items, sizes={} if size is None else {item.uri: size for item in items})


def shards(count: int, members: int, size: int, group: int | None = None) -> Listing:
    items = [
        SourceItem(
            relative_path=f"{shard}/{member:06d}",
            uri=f"/s/{shard}/{member}",
            shard=f"/s/{shard}",
            image_size=size,
            row=None if group is None else member,
            row_group=None if group is None else member // group,
        )
        for shard in range(count)
        for member in range(members)
    ]
    return Listing(items=items)


def paths(parts: Sequence[Sequence[SourceItem]]) -> list[str]:
    return [item.relative_path for part in parts for item in part]


@pytest.mark.parametrize(
    ("listing", "settings", "sizes"),
    [
        (files(200), {}, {64, 8}),
        (files(200), {"part_size": 30}, {30, 20}),
        (files(200, 2_000_000), {}, {33, 2}),
        (files(5, PART_BYTES + 1), {}, {1}),
        (files(70_000), {}, {69, 34}),
        (files(1000), {"others": 99_000}, {98, 20}),
        (files(70_000, None), {"part_bytes": 2**22}, {64, 48}),
        (shards(10, 100, 20_000), {}, {64, 40}),
        (shards(3, 1000, 20_000, group=100), {}, {100}),
        (shards(3, 250, 20_000, group=100), {"part_size": 200}, {200, 150, 50}),
        (shards(1, 1000, 2_000_000, group=500), {}, {33, 10, 5}),
        (shards(20, 1000, 20_000, group=100), {}, {300, 200}),
    ],
)
@pytest.mark.parametrize("shuffled", [False, True])
def test_parts_have_their_size_and_hold_every_photograph_once(
    listing: Listing, settings: dict, sizes: set[int], shuffled: bool
) -> None:
    parts = divide(listing, shuffled=shuffled, **{"part_size": None, **settings})
    everything = [item.relative_path for item in listing.items]
    if not shuffled:
        assert paths(parts) == everything
    assert sorted(paths(parts)) == sorted(everything)
    assert {len(part) for part in parts} <= sizes and max(map(len, parts)) == max(sizes)


def test_the_paths_alone_determine_the_order() -> None:
    listing, half = files(1000), files(500)
    order, part = (paths(divide(each, shuffled=True, part_size=64)) for each in (listing, half))
    members = set(part)
    assert [path for path in order if path in members] == part != sorted(part)
    random = Listing(items=listing.items, random=True)
    assert paths(divide(random, shuffled=True, part_size=64)) == [item.relative_path for item in listing.items]
    assert divide(Listing(items=[]), shuffled=True, part_size=None) == []


def test_a_part_of_shards_reads_runs_of_neighbours_and_whole_row_groups() -> None:
    for group, size, most in ((None, 1024, 34), (50, 800, 16)):
        for part in divide(shards(40, 800, 20_000, group), shuffled=True, part_size=size)[:-1]:
            members = sorted((item.shard, int(item.relative_path[-6:])) for item in part)
            before = [("", 0), *members]
            starts = [member for one, member in pairwise(before) if member != (one[0], one[1] + 1)]
            assert 10 < len(starts) <= most and len({shard for shard, _ in starts}) > 8
            assert group is None or all(member % group == 0 for _, member in starts)


@pytest.mark.parametrize("kind", ["folder", "webdataset"])
def test_a_batch_shows_as_many_classes_as_a_uniform_draw(tmp_path: Path, kind: str) -> None:
    path = write_source(tmp_path / "pictures", kind, classes=12, pictures=64)
    for order, shuffled in (("source", False), ("shuffled", True)):
        source = SourceConfig(kind=kind, path=path, order=order)
        batch, steps = shown_classes(ingest_local(source, str(tmp_path / order)), 64, 20)
        assert (batch > 0.95 * uniform_classes(12, BATCH)) == shuffled
        assert steps == 12 or not shuffled
