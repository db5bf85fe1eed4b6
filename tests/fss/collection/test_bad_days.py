"""Object stores that fail now and then, disks that are full: work left whole, told plainly, finished later."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fss.collection import Collection, ingest_local
from fss.collection.part_rows import PartRows
from fss.collection.schema import IMAGE_SCHEMA
from fss.collection.sources import SourceConfig
from fss.collection.verify import find_problems
from fss.core import storage
from fss.saliency import SaliencyConfig
from fss.saliency.pseudomask import pseudomask_part
from tests.helpers.bad_files.formats import encoded, picture
from tests.helpers.flaky_store import faulty_store

PHOTOGRAPHS, PART_SIZE = 12, 2


def put_photographs(folder: str, count: int = PHOTOGRAPHS) -> None:
    for number in range(count):
        data = encoded("JPEG", picture((48 + number, 40)))
        storage.write_atomically(*storage.resolve(f"{folder}/{number:03d}.jpg"), data)


def make(uri: str, source: str) -> Collection:
    """Photographs to masks, one part after the other, as every driver does."""
    collection = ingest_local(SourceConfig(path=source), uri, part_size=PART_SIZE)
    masks = collection.create_mask_set("saliency", config_hash="1" * 16, provenance={})
    for part in sorted(set(collection.part_names()) - masks.finished_parts()):
        pseudomask_part(collection.uri, "saliency", part, SaliencyConfig())
    return collection


def contents(collection: Collection) -> list[object]:
    masks = collection.mask_set("saliency")
    images = [collection.read_part(part, ["image_id", "image"]).to_pylist() for part in collection.part_names()]
    return [images, [masks.read_part(part).to_pylist() for part in collection.part_names()]]


@pytest.mark.parametrize(
    ("photographs", "errors", "slow"),
    [pytest.param(60, 0.01, 0.05, marks=pytest.mark.slow), (PHOTOGRAPHS, 0.1, 0.05)],
    ids=["a bad day", "a very bad day"],
)
def test_a_store_that_fails_and_dawdles_costs_time_and_nothing_else(
    s3: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, photographs: int, errors: float, slow: float
) -> None:
    put_photographs(f"{s3}/raw", photographs)
    expected = contents(make(f"{s3}/undisturbed", f"{s3}/raw"))
    with faulty_store(s3_server, errors=errors, slow=slow, delay_s=0.2, seed=2) as (address, done):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        made = make(f"{s3}/disturbed", f"{s3}/raw")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert min(done[what] for what in ("passed", "busy", "hung up", "slow")) > 0, done
    assert contents(Collection.open(made.uri)) == expected


def test_a_store_that_is_gone_is_told(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"cannot reach .* Check AWS_ACCESS_KEY_ID"):
        Collection.open(f"{s3}/c")


def test_a_full_disk_leaves_whole_parts_and_the_rest_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_photographs(str(tmp_path / "raw"))
    expected = contents(make(str(tmp_path / "undisturbed"), str(tmp_path / "raw")))
    written: list[int] = []
    sync = os.fsync

    def full(file: int) -> None:
        written.append(file)
        if len(written) > 14:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    for _ in range(3):  # again and again, while there is no room
        with pytest.raises(OSError, match="No space left on device"):
            make(str(tmp_path / "c"), str(tmp_path / "raw"))
    collection = Collection.open(str(tmp_path / "c"))
    assert 0 < len(collection.part_names()) < PHOTOGRAPHS // PART_SIZE
    assert not [path for path in (tmp_path / "c").rglob("*") if path.name.endswith(".tmp")]
    for part in collection.part_names():
        assert collection.read_part(part).num_rows == PART_SIZE
    monkeypatch.setattr(os, "fsync", sync)
    assert contents(make(str(tmp_path / "c"), str(tmp_path / "raw"))) == expected


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_as_a_part(kind: str, collection: Collection) -> None:
    folders = (collection.parts, collection.mask_set("truth").parts)
    for folder in folders:
        part = Path(folder.uri, "part-00001.parquet")
        part.unlink()
        if kind == "pipe":
            os.mkfifo(part)
        elif kind == "device":
            part.symlink_to("/dev/zero")
        else:
            part.mkdir()
    reads: list[Callable[[], object]] = [
        lambda: collection.read_part("part-00001"),
        lambda: PartRows(collection.parts.uri, IMAGE_SCHEMA, ["image"]).value("part-00001", 0, "image"),
        lambda: list(collection.parts.tables(["part-00001"], ["image"])),
        lambda: collection.mask_set("truth").read_part("part-00001", ["mask"]),
    ]
    for read in reads:
        with pytest.raises(ValueError, match=r"part-00001\.parquet cannot be read: .*not a regular file"):
            read()
    assert any("not a regular file" in problem for problem in find_problems(collection))


def test_a_command_that_may_not_write_more_says_so_in_one_line(collection: Collection, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)); from fss.cli.main import main; main(sys.argv[1:])"
    )
    words = ["masks", "export", collection.uri, "truth", "--output", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    told, _, advice = done.stderr.strip().rpartition("; ")
    assert told.startswith(f"fss masks: error: no space left for {tmp_path / 'out'}/")
    assert advice == "free some space and run it again"
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
