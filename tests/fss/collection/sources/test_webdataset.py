"""Tar shards as a source: which members are photographs and masks, how damage is told, and which bytes are read."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fss.collection import Collection, ingest_local, source_listing
from fss.collection.ingest import start_ingest
from fss.collection.ingest_part import ingest_part
from fss.collection.sources import Listing, RawItem, SourceConfig, item_reader, list_items, shards
from fss.core import storage
from fss.images.limits import DecodeLimits
from tests.helpers.bad_files.formats import encoded
from tests.helpers.dataset_layouts import write_bytes
from tests.helpers.fuzzing import damage

LIMITS = DecodeLimits()
JPEG = encoded("JPEG", Image.new("RGB", (48, 40), (200, 30, 60)))
PNG = encoded("PNG", Image.fromarray(np.pad(np.full((20, 20), 255, np.uint8), ((5, 15), (10, 18)))))
INDEX = encoded("PNG", Image.fromarray(np.eye(40, 48, dtype=np.uint8) * 3))
LONG = f"{'folder/' * 30}{'name' * 20}"

Members = Mapping[str, bytes] | Sequence[tuple[str, bytes]]


def tar(members: Members, form: int = tarfile.PAX_FORMAT, *extra: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return buffer.getvalue()


def source(root: Path, files: Mapping[str, bytes], **settings: object) -> SourceConfig:
    for name, data in files.items():
        write_bytes(root / name, data)
    return SourceConfig(kind="webdataset", path=str(root), **settings)  # type: ignore[arg-type]


def rows(config: SourceConfig, listing: Listing, limits: DecodeLimits = LIMITS) -> dict[str, RawItem]:
    read = item_reader(listing.items, config, limits)
    return {item.relative_path: read(item) for item in listing.items}


PAIRS: dict[str, tuple[Members, dict[str, str | None]]] = {
    "photographs alone": ({"b.jpg": JPEG, "a.jpg": JPEG, "a.cls": b"3"}, {"b.jpg": None, "a.jpg": None}),
    "mask.png": ({"a/1.jpg": JPEG, "a/1.mask.png": PNG, "a/1.json": b"{}"}, {"a/1.jpg": "a/1.mask.png"}),
    "seg.png": ({"1.seg.png": PNG, "1.jpg": JPEG}, {"1.jpg": "1.seg.png"}),
    "png beside": ({"1.jpg": JPEG, "1.png": PNG, "2.jpg": JPEG}, {"1.jpg": "1.png", "2.jpg": None}),
    "folders": ({"images/1.jpg": JPEG, "masks/1.png": PNG}, {"images/1.jpg": "masks/1.png"}),
    "dot": ({"./1.jpg": JPEG, "./1.png": PNG}, {"1.jpg": "1.png"}),
    "photographs in PNG": ({"1.png": JPEG, "2.png": JPEG}, {"1.png": None, "2.png": None}),
    "long names": ({f"{LONG}.jpg": JPEG, f"{LONG}.mask.png": PNG}, {f"{LONG}.jpg": f"{LONG}.mask.png"}),
}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("layout", PAIRS)
def test_members_of_one_key_are_photograph_and_mask(tmp_path: Path, layout: str, form: int) -> None:
    members, expected = PAIRS[layout]
    config = source(tmp_path, {"x/0.tar": tar(members, form)})
    listing = list_items(config)
    shard = f"{tmp_path}/x/0.tar"
    assert [item.relative_path for item in listing.items] == [f"x/0.tar/{name}" for name in expected]
    assert [item.mask_uri for item in listing.items] == [name and f"{shard}/{name}" for name in expected.values()]
    assert listing.labelled == any(expected.values()) and not listing.warnings
    for path, raw in rows(config, listing).items():
        assert raw.data == JPEG and (raw.label is not None) == bool(expected[path.removeprefix("x/0.tar/")])
        assert raw.label is None or int((raw.label.mask == 1).sum()) == 400


def test_masks_may_have_shards_of_their_own(tmp_path: Path) -> None:
    other = encoded("PNG", Image.fromarray(np.zeros((40, 48), np.uint8)))
    files = {"images/0.tar": tar({"1.jpg": JPEG, "1.json": PNG}), "masks/0.tar": tar({"0.png": other, "1.png": PNG})}
    config = source(tmp_path, files)
    listing = list_items(config)
    source_listing.write(str(tmp_path / "c"), "00000", [listing.items])
    (item,) = source_listing.read(str(tmp_path / "c"), "00000", 0)
    assert (item.shard, item.mask_shard) == (f"{tmp_path}/images/0.tar", f"{tmp_path}/masks/0.tar")
    label = item_reader([item], config, LIMITS)(item).label
    assert label is not None and int((label.mask == 1).sum()) == 400 and listing.unmatched == ("masks/0.tar/0.png",)


def test_shards_are_in_order_and_members_keep_theirs(tmp_path: Path) -> None:
    config = source(tmp_path, {f"{n}.tar": tar({"b.jpg": JPEG, "a.jpg": JPEG}) for n in (2, 10, 1)})
    names = ["1.tar/b.jpg", "1.tar/a.jpg", "10.tar/b.jpg", "10.tar/a.jpg", "2.tar/b.jpg", "2.tar/a.jpg"]
    listing = list_items(config)
    assert [item.relative_path for item in listing.items] == names
    write_bytes(tmp_path / "1.tar", tar({"b.jpg": JPEG, "c.cls": b"", "a.jpg": JPEG}))
    assert list_items(config).hash() != listing.hash()  # the bytes moved


def member(name: str, kind: bytes, **values: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in values.items():
        setattr(info, key, value)
    return info


def test_members_that_are_no_plain_files_are_counted(tmp_path: Path) -> None:
    names = ["/etc/1.jpg", "../2.jpg", "a/../../3.jpg", "C:\\4.jpg", "a\\..\\5.jpg", "._6.jpg", "a/.7.jpg", "8.jpg"]
    extra = [
        member("9.jpg", tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("10.jpg", tarfile.LNKTYPE, linkname="8.jpg"),
        member("11.jpg", tarfile.FIFOTYPE),
        member("12.jpg", tarfile.GNUTYPE_SPARSE),
        member("13.jpg", tarfile.REGTYPE, pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": "9"}),
        member("folder.jpg", tarfile.DIRTYPE),
    ]
    members = [*((name, JPEG) for name in names), ("8.jpg", JPEG[:-1])]
    config = source(tmp_path, {"0.tar": tar(members, tarfile.PAX_FORMAT, *extra), "readme.md": b""})
    listing = list_items(config)
    assert [item.relative_path for item in listing.items] == ["0.tar/8.jpg"]
    assert rows(config, listing)["0.tar/8.jpg"].data == JPEG[:-1]  # the later one, as in an extracted tar file
    assert listing.ignored == {
        "unsafe names in shards": 5,
        "hidden files": 2,
        "links in shards": 2,
        "devices and pipes in shards": 1,
        "sparse files in shards": 2,
        "members that a later one of their name replaces": 1,
        "other files": 1,
    }


def test_a_damaged_shard_keeps_the_members_before_the_damage(tmp_path: Path) -> None:
    whole = tar({"a.jpg": JPEG, "b.jpg": JPEG, "c.jpg": JPEG})
    step = len(tar({"a.jpg": JPEG})) and 512 + -(-len(JPEG) // 512) * 512
    broken = bytearray(whole)
    broken[2 * step : 2 * step + 200] = bytes(200)
    files = {
        "0.tar": whole,
        "1.tar": bytes(broken),
        "2.tar": whole[: step + 600],
        "3.tar": whole[: 2 * step],
        "4.tar": b"\x1f\x8b\x08" + whole,
        "5.tar": b"version https://git-lfs.github.com/spec/v1\n",
        "6.tar": b"",
        "7.tar": b"no tar file" * 100,
    }
    config = source(tmp_path, files)
    listing = list_items(config)
    read = rows(config, listing)
    assert {path: raw.error for path, raw in read.items() if raw.error} == {
        "2.tar/b.jpg": "truncated: the shard ends within the file; copy or download the shard again"
    }
    assert [path for path, raw in read.items() if raw.data == JPEG] == [
        *("0.tar/a.jpg", "0.tar/b.jpg", "0.tar/c.jpg", "1.tar/a.jpg", "1.tar/b.jpg"),
        *("2.tar/a.jpg", "3.tar/a.jpg", "3.tar/b.jpg"),
    ]
    assert listing.ignored == {"damaged shards": 7}
    (warning,) = listing.warnings
    assert warning.startswith("7 shards are left out or not read to the end: 1.tar: a header is damaged (byte ")
    for text in ("2.tar: it ends within b.jpg", "without an end mark after b.jpg", "with gzip", "run git lfs pull"):
        assert text in warning


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({"0.tar.gz": b"", "1.tar": tar({})}, {}, "0.tar.gz in .* has no random access.*gunzip"),
        ({"0.tgz": b""}, {}, "0.tgz in .* is compressed"),
        ({"a.jpg": JPEG}, {}, r"has no shards, \*.tar; give the folder"),
        ({"0.tar": tar({"a.cls": b"1"})}, {}, r"there are no photographs in .* \(1 other members of shards\)"),
        ({"0.tar": tar({"a.jpg": JPEG})}, {"masks": "binary"}, "masks=binary needs masks, but the shards"),
        ({"0.tar": tar({"a.jpg": JPEG})}, {"mask_suffix": "_cut"}, "--source.mask-suffix '_cut'"),
    ],
)
def test_sources_without_photographs_are_refused(
    tmp_path: Path, files: dict[str, bytes], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        list_items(source(tmp_path, files, **settings))


def test_masks_have_the_meaning_of_the_settings(tmp_path: Path) -> None:
    files = {
        "0.tar": tar({"a.jpg": JPEG, "a_cut.png": INDEX, "b.jpg": JPEG, "b.png": PNG}),
        "classes.txt": b"road\ncar\nbus\nbike\n",
    }
    index = source(tmp_path, files, masks="index", mask_suffix="_cut")
    listing = list_items(index)
    assert listing.classes[3] == "bike"
    label = rows(index, listing)["0.tar/a.jpg"].label
    assert label is not None and label.class_ids == (3,)
    none = list_items(source(tmp_path, {}, masks="none", mask_suffix="_cut"))
    assert not none.labelled and none.ignored["masks"] == 1
    every = list_items(source(tmp_path, {}, images="."))
    assert len(every.items) == 4 and not every.labelled


def test_a_size_over_the_limit_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = source(tmp_path, {"0.tar": tar({"a.jpg": JPEG, "b.jpg": JPEG + bytes(2**16), "c.jpg": JPEG})})
    listing = list_items(config)
    asked: list[int] = []
    read_at = shards.Shard.read_at
    monkeypatch.setattr(shards.Shard, "read_at", lambda *given: asked.append(given[2]) or read_at(*given))
    read = rows(config, listing, DecodeLimits(max_bytes=2**15))
    assert sum(asked) < 2 * len(JPEG) + 2048
    assert {path: raw.error for path, raw in read.items()} == {
        "0.tar/a.jpg": None,
        "0.tar/b.jpg": f"too-many-bytes: {len(JPEG) + 2**16} bytes in the shard; at most {2**15} are allowed",
        "0.tar/c.jpg": None,
    }


def test_a_shard_that_changed_after_the_listing_is_a_reason(tmp_path: Path) -> None:
    config = source(tmp_path, {"0.tar": tar({"a.jpg": JPEG, "b.jpg": JPEG}), "1.tar": tar({"a.jpg": JPEG})})
    listing = list_items(config)
    write_bytes(tmp_path / "0.tar", tar({"a.jpg": JPEG, "new.jpg": JPEG + bytes(4096), "b.jpg": JPEG}))
    (tmp_path / "1.tar").unlink()
    errors = {path: str(raw.error).split(":")[0] for path, raw in rows(config, listing).items()}
    assert errors == {"0.tar/a.jpg": "None", "0.tar/b.jpg": "changed-shard", "1.tar/a.jpg": "unreadable"}


def ingest_half(uri: str, config: SourceConfig) -> Collection:
    """Ingest a part, and the others in a second start."""
    started = start_ingest(uri, config, part_size=2)
    ingest_part(uri, started.parts[1])
    assert start_ingest(uri, config, part_size=2).finished() == {started.parts[1]}
    return ingest_local(config, uri, part_size=2)


def check_collection(collection: Collection, root: str) -> None:
    names = [row["uri"] for part in collection.part_names() for row in collection.read_part(part).to_pylist()]
    assert sorted(names) == [f"{root}/{shard}.tar/{name}.jpg" for shard in (0, 1) for name in "abc"] != names
    truth = collection.mask_set("truth")
    masks = [row for part in truth.ordered_parts() for row in truth.read_part(part).to_pylist()]
    assert [row["error"] for row in masks] == [None] * 6
    assert (
        source_listing.read(collection.uri, collection.metadata["sources"][0]["listing_name"], 0)[1].image_offset
        is not None
    )


def test_shards_become_a_collection_that_resumes_and_grows(tmp_path: Path) -> None:
    shard = tar({f"{name}.{kind}": data for name in "abc" for kind, data in (("jpg", JPEG), ("mask.png", PNG))})
    config = source(tmp_path / "data", {"0.tar": shard, "1.tar": shard})
    with pytest.raises(ValueError, match=r"lie within shards .* set keep_bytes"):
        ingest_local(config, str(tmp_path / "c"), keep_bytes=False)
    collection = ingest_half(str(tmp_path / "c"), config)
    check_collection(collection, config.path)
    write_bytes(tmp_path / "data" / "2.tar", shard)
    grown = ingest_local(config, collection.uri, part_size=2, append=True)
    assert sum(map(len, grown.image_ids().values())) == 9


def test_shards_in_an_object_store(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = encoded("PNG", Image.fromarray(np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8)))
    members = [(f"{name}.{kind}", data) for name in "abc" for kind, data in (("jpg", noise), ("mask.png", noise))]
    shard = tar(members)
    for number in (0, 1):
        storage.write_atomically(*storage.resolve(f"{s3}/raw/{number}.tar"), shard)
    config = SourceConfig(kind="webdataset", path=f"{s3}/raw", masks="index")
    asked: list[int] = []
    read_at = shards.Shard.read_at
    monkeypatch.setattr(shards.Shard, "read_at", lambda *given: asked.append(given[2]) or read_at(*given))
    listing = list_items(config)
    assert len(listing.items) == 6 and sum(asked) < 2 * len(shard)
    many = tar([(f"{number:03d}.png", noise) for number in range(60)])
    large = tar([(f"{number}.png", noise + bytes(2**22)) for number in range(4)])
    asked.clear()
    for data, requests in ((many, 14), (large, 9)):  # two of them look at the first and the last bytes
        storage.write_atomically(*storage.resolve(f"{s3}/many/0.tar"), data)
        assert len(list_items(SourceConfig(kind="webdataset", path=f"{s3}/many")).items) in (60, 4)
        assert len(asked) <= requests and (data is many or sum(asked) < 2**18)
        asked.clear()
    read = item_reader(listing.items[:2], config, LIMITS)
    assert len(asked) == 1 and asked[0] < 1.01 * 4 * len(noise)  # neighbours are one request
    assert read(listing.items[1]).data == noise
    for number in (0, 1):
        small = tar({f"{name}.{kind}": data for name in "abc" for kind, data in (("jpg", JPEG), ("mask.png", PNG))})
        storage.write_atomically(*storage.resolve(f"{s3}/small/{number}.tar"), small)
    check_collection(ingest_half(f"{s3}/c", SourceConfig(kind="webdataset", path=f"{s3}/small")), f"{s3}/small")


def test_damaged_bytes_are_photographs_or_reasons(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    forms = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    name = "n" * 101
    wholes = [tar({"a.jpg": JPEG, "a.mask.png": PNG, "b.json": b"{}", "c.jpg": JPEG}, form) for form in forms]
    wholes.append(tar({f"{name}.jpg": JPEG, f"{name}.png": PNG}, tarfile.GNU_FORMAT))
    files = {f"{number:03d}.tar": damage(wholes[number % 4], rng) for number in range(300)}
    header_only = [bytearray(wholes[number % 4]) for number in range(100)]
    for number, data in enumerate(header_only):  # sizes, types and names with the checksum of what they are
        position = int(rng.choice([124, 125, 134, 135, 156, 0, 257]))
        data[position] = int(rng.choice([0x80, 0xFF, 0x37, 0x4C, 0x78, 0x53, 0x2F, 0]))
        data[148:156] = b" " * 8
        data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
        files[f"h{number:03d}.tar"] = bytes(data)
    config = source(tmp_path, {"good.tar": wholes[0], **files})
    listing = list_items(config)
    source_listing.write(str(tmp_path / "c"), "00000", [listing.items])
    assert source_listing.read(str(tmp_path / "c"), "00000", 0) == listing.items
    read = rows(config, listing)
    assert read["good.tar/a.jpg"].label is not None and len(read) > 300
    for raw in read.values():
        assert (raw.data is None) == (raw.error is not None) and (raw.label is None) == (raw.mask_error is not None)
