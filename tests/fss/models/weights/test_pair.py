"""Weights and their JSON change as one: no reader mixes two models, and no killed writer loses both."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from fss.core import storage
from fss.core.json_values import parse_object
from fss.core.storage import join
from fss.models.weights import pair
from fss.models.weights.pair import WEIGHTS, read_pair, weights_name, write_pair

NAME = "m.json"


@pytest.fixture(params=["local", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "m") if request.param == "local" else join(str(request.getfixturevalue("s3")), "m")


def put(folder: str, number: int, **more: Any) -> None:
    write_pair(folder, NAME, save({"w": torch.full((1000,), float(number))}), {"number": number, **more})


def get(folder: str) -> tuple[int, int]:
    """The numbers in the JSON and in the weights."""
    uri = join(folder, NAME)
    description, weights = read_pair(folder, lambda: parse_object(storage.read_bytes(uri), uri))
    return description["number"], int(weights.content["w"][0])


def names(folder: str) -> list[str]:
    return storage.list_names(*storage.resolve(folder))


def test_a_model_replaces_another(folder: str) -> None:
    put(folder, 1)
    assert names(folder) == [NAME, WEIGHTS] and get(folder) == (1, 1)
    put(folder, 1, more=True)
    assert names(folder) == [NAME, WEIGHTS], "equal weights keep their name"
    for number in (2, 3, 1):
        put(folder, number)
        assert len(names(folder)) == 2 and WEIGHTS not in names(folder)
        assert get(folder) == (number, number)


@pytest.mark.parametrize("writes", [0, 1])
def test_a_killed_writer_leaves_the_old_model(writes: int, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, 1)
    write, done = storage.write_atomically, []

    def killed(*arguments: Any) -> None:
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(write(*arguments))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(storage, "write_atomically", killed)
        put(folder, 2)
    assert get(folder) == (1, 1)
    put(folder, 3)
    assert get(folder) == (3, 3) and len(names(folder)) == 2, "what the killed writer left is deleted"


def test_readers_of_a_folder_that_is_written_see_whole_models(tmp_path: Path) -> None:
    folder, ended, seen = str(tmp_path), threading.Event(), set()
    put(folder, 0)

    def write() -> None:
        for number in range(1, 40):
            put(folder, number % 7)
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not ended.is_set():
        described, weighed = get(folder)
        assert described == weighed
        seen.add(described)
    thread.join()
    assert len(seen) > 1


def test_a_model_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opened, read = str(tmp_path), [], pair.open_weights
    put(folder, 1)

    def overtaken(uri: str, **options: Any) -> Any:
        opened.append(uri)
        if len(opened) == 1:
            put(folder, 2)
        return read(uri, **options)

    monkeypatch.setattr(pair, "open_weights", overtaken)
    assert get(folder) == (2, 2) and len(opened) == 2


@pytest.mark.parametrize("name", ["../model.safetensors", "other.safetensors", 3, None, "model-12.safetensors"])
def test_a_foreign_name_of_weights_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=r"m\.json is damaged: weights_file is"):
        weights_name({"weights_file": name}, NAME)
