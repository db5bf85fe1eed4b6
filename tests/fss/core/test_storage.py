from pathlib import Path

import pytest
from pyarrow import fs as pafs

from fss.core.storage import (
    absolute_uri,
    check_access,
    check_file_writable,
    check_writable,
    join,
    list_names,
    read_bytes,
    resolve,
    write_atomically,
)


def test_local_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert absolute_uri("a/b/") == str(tmp_path / "a/b")
    assert absolute_uri("file:///a/b") == "/a/b"
    for name in ("a b", "%20", "50%", "what?", "x#y", "ü"):
        folder = tmp_path / name
        folder.mkdir()
        assert absolute_uri(folder.as_uri()) == absolute_uri(f"file://{folder}") == absolute_uri(folder) == str(folder)
    assert absolute_uri("file://localhost/a%20b") == "/a b"
    assert absolute_uri("~/x") == "/home/someone/x"
    assert absolute_uri(Path("/a")) == "/a"
    assert join("/a/", "b", "c") == "/a/b/c"


@pytest.mark.parametrize(
    "uri",
    [
        "http://host/x",
        "gs://bucket/x",
        "s3://",
        "s3:///",
        "s3:/bucket/x",
        "s3:bucket/x",
        "hf:user/x",
        "file:a",
        "S3:/b",
        "file:/a",
        Path("s3://b/x"),
    ],
)
def test_other_names_are_refused(uri: str | Path) -> None:
    with pytest.raises(ValueError, match=r"use a local path|no bucket|two slashes follow a scheme: \w+://\w"):
        resolve(uri)


def test_a_local_folder_may_have_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("10:30/x", "./s3:/x", "a:/x"):
        assert absolute_uri(name) == str(tmp_path / name)


def test_a_home_and_a_working_directory_that_are_not_there_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"there is no user ~nobody-here, .* is \./~nobody-here/photos"):
        absolute_uri("~nobody-here/photos")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ValueError, match="cannot open 'photos', since the working directory was deleted"):
        absolute_uri("photos")
    monkeypatch.chdir(tmp_path)


def test_an_output_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "lost").symlink_to("/nowhere")
    for folder, reason in (("file/x", "file is a file"), ("lost/x", "lost is a link to /nowhere, which is not there")):
        with pytest.raises(ValueError, match=reason):
            check_writable(tmp_path / folder)
        with pytest.raises(ValueError, match=reason):
            check_file_writable(tmp_path / folder / "masks.json")
    with pytest.raises(ValueError, match="cannot write to /proc/x: /proc takes no files; give another folder"):
        check_writable("/proc/x")
    with pytest.raises(ValueError, match="there is a folder of that name; give a file"):
        check_file_writable(tmp_path)
    check_file_writable(tmp_path / "new" / "masks.json")


def test_the_longest_name_that_the_disk_takes_is_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".png")
    write_atomically(*resolve(target), b"1")
    assert read_bytes(target) == b"1"


def test_write_read_list(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.bin"
    write_atomically(*resolve(target), b"12345")
    write_atomically(*resolve(target), b"123456")
    assert read_bytes(target) == b"123456"
    assert read_bytes(target, limit=2) == b"12"
    assert list_names(*resolve(target.parent)) == ["a.bin"]
    assert list_names(*resolve(tmp_path / "nowhere")) == []
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "nowhere")


def test_object_store(s3: str) -> None:
    uri = join(s3, "folder", "a.bin")
    large = bytes(range(256)) * 50_000  # more than one upload piece
    write_atomically(*resolve(uri), large)
    assert read_bytes(uri) == large
    assert read_bytes(uri, limit=3) == b"\x00\x01\x02"
    assert list_names(*resolve(join(s3, "folder"))) == ["a.bin"]
    assert list_names(*resolve(join(s3, "nowhere"))) == []
    assert absolute_uri(s3 + "/folder/") == s3 + "/folder"
    with pytest.raises(FileNotFoundError):
        read_bytes(join(s3, "nowhere"))
    check_access(uri)


def test_a_wrong_bucket_shows_itself_early(s3: str) -> None:
    with pytest.raises(ValueError, match="there is no bucket 'no-such-bucket'"):
        check_access("s3://no-such-bucket/photos")


def test_an_object_store_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(ValueError, match="Check AWS_ACCESS_KEY_ID"):
        check_access("s3://bucket/photos")


def test_the_endpoint_of_the_moment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    first, _ = resolve("s3://bucket/a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:10")
    second, path = resolve("s3://bucket/a")
    assert isinstance(first, pafs.S3FileSystem)
    assert not first.equals(second)
    assert path == "bucket/a"
