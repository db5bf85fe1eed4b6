"""Parts with decoding ahead and writing behind: the same rows as one picture at a time, and nothing lost on the way."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from fss.collection import Collection, part_io
from fss.collection.part_pipeline import decode_row
from fss.collection.schema import image_table
from fss.core.prefetch import prefetch
from fss.images.limits import DecodeLimits
from fss.saliency import SaliencyConfig, pseudomask
from fss.saliency.estimators import EstimatorSettings
from fss.saliency.pseudomask import pseudomask_part, pseudomask_parts
from fss.saliency.student.estimator import StudentEstimator
from tests.fss.saliency.test_estimators import save_random_student
from tests.fss.saliency.test_pseudomask import make

NAMES = ["part-00000", "part-00001"]


def two_parts(path: Path) -> Collection:
    collection, _ = make(path)
    first = collection.read_part("part-00000")
    rows = [{**row, "image_id": f"{row['image_id'][:16]}-{number:08x}"} for number, row in enumerate(first.to_pylist())]
    collection.write_part("part-00001", image_table(rows[::-1]))
    for name in ("single", "staged"):
        collection.create_mask_set(name, config_hash="0" * 16, provenance={})
    return collection


@pytest.mark.parametrize("kind", ["classical", "student"])
@pytest.mark.parametrize("batch", [2, 32])
def test_staged_parts_are_those_made_one_by_one(
    kind: str, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudomask, "BATCH", batch)
    settings: EstimatorSettings = (
        SaliencyConfig() if kind == "classical" else save_random_student(tmp_path / "s.safetensors")
    )
    collection = two_parts(tmp_path / "c")
    single = [pseudomask_part(collection.uri, "single", name, settings) for name in NAMES]
    staged = list(pseudomask_parts(NAMES, collection_uri=collection.uri, set_name="staged", cfg=settings, device="cpu"))
    assert staged == list(zip(NAMES, single, strict=True))
    for name in NAMES:
        one = collection.mask_set("single").read_part(name).to_pylist()
        other = collection.mask_set("staged").read_part(name).to_pylist()
        assert [row["image_id"] for row in one] == [row["image_id"] for row in other]
        assert [row["error"] for row in one] == [row["error"] for row in other]
        if kind == "classical":
            assert one == other
        else:  # a network's sums depend on the batch in their last digits
            for a, b in zip(one, other, strict=True):
                assert (a["scores"] is None) == (b["scores"] is None)
                if a["scores"]:
                    assert a["scores"]["area"] == pytest.approx(b["scores"]["area"], abs=0.01)


def test_an_object_store_that_fails_is_no_error_of_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"image_id": "x", "image": None, "uri": "s3://b/x.jpg", "error": None}
    for error, expected in (
        (OSError("AWS Error NETWORK_CONNECTION"), None),
        (FileNotFoundError(2, "No such file or directory"), "unreadable: s3://b/x.jpg: No such file or directory; "),
        (OSError("AWS Error ACCESS_DENIED"), "unreadable: s3://b/x.jpg: AWS Error ACCESS_DENIED; bring it back"),
    ):
        monkeypatch.setattr(part_io.storage, "read_bytes", mock.Mock(side_effect=error))
        with nullcontext() if expected else pytest.raises(OSError, match="NETWORK_CONNECTION"):
            assert (decode_row(row, DecodeLimits()).error or "").startswith(str(expected))


def test_a_damaged_part_is_told_and_the_others_are_made(tmp_path: Path) -> None:
    collection = two_parts(tmp_path / "c")
    Path(collection.uri, "images/part-00000.parquet").write_bytes(b"half a file")
    found = dict(
        pseudomask_parts(NAMES, collection_uri=collection.uri, set_name="staged", cfg=SaliencyConfig(), device="cpu")
    )
    assert isinstance(found["part-00000"], ValueError) and "cannot be read" in str(found["part-00000"])
    assert isinstance(found["part-00001"], dict) and found["part-00001"]["images"] == 5
    assert collection.mask_set("staged").finished_parts() == {"part-00001"}


def test_a_part_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = two_parts(tmp_path / "c")
    real = part_io.write

    def full(folder: str, part: str, *rest: object) -> str:
        if part == "part-00000":
            raise OSError("disk full")
        return real(folder, part, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(part_io, "write", full)
    found = dict(
        pseudomask_parts(NAMES, collection_uri=collection.uri, set_name="staged", cfg=SaliencyConfig(), device="cpu")
    )
    assert str(found["part-00000"]) == "disk full" and isinstance(found["part-00001"], dict)


def test_a_strange_picture_costs_its_batch_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = two_parts(tmp_path / "c")
    real = StudentEstimator.estimate_batch

    def fragile(self: StudentEstimator, images: Sequence[np.ndarray]) -> object:
        if any(id(image) == strange for image in images):
            raise RuntimeError("singular matrix")
        return real(self, images)

    strange, second = 0, collection.image_ids()["part-00000"][1]
    decode_row = pseudomask.decode_row

    def watched(record: dict[str, object], limits: object) -> object:
        nonlocal strange
        picture = decode_row(record, limits)  # type: ignore[arg-type]
        if record["image_id"] == second:
            strange = id(picture.rgb)
        return picture

    monkeypatch.setattr(pseudomask, "decode_row", watched)
    monkeypatch.setattr(StudentEstimator, "estimate_batch", fragile)
    settings = save_random_student(tmp_path / "s.safetensors")
    list(pseudomask_parts(NAMES[:1], collection_uri=collection.uri, set_name="staged", cfg=settings, device="cpu"))
    errors = collection.mask_set("staged").read_part("part-00000").column("error").to_pylist()
    assert errors[1] == "saliency: RuntimeError: singular matrix"
    assert errors[0] is None and errors[2] is None


def test_ahead_keeps_order_and_makes_no_more_than_it_may() -> None:
    made: list[int] = []
    gate = threading.Semaphore(0)

    def numbers() -> Iterator[int]:
        for number in range(6):
            made.append(number)
            gate.release()
            yield number

    taken = prefetch(numbers(), depth=2)
    assert next(taken) == 0
    for _ in range(3):
        assert gate.acquire(timeout=5)
    assert not gate.acquire(timeout=0.05)  # the one taken and two ahead, no more
    assert list(taken) == [1, 2, 3, 4, 5]


def test_an_error_ahead_reaches_the_caller() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("gone")

    taken = prefetch(broken())
    assert next(taken) == 1
    with pytest.raises(RuntimeError, match="gone"):
        next(taken)
