"""Untrusted checkpoints: no code in them runs, and invalid files raise ValueError."""

import json
import os
import pickle
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fss.models import create_segmenter, load_checkpoint, load_published, save_checkpoint
from fss.models.weights.reading import open_weights

MARK = Path("/tmp") / f"fss-was-run-{os.getpid()}"


class Payload:
    """An object that creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {MARK}",)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(create_segmenter(backbone="timm:test_resnet.r160_in1k", width=32), tmp_path / "model")


@pytest.fixture(autouse=True)
def no_payload_runs() -> object:
    MARK.unlink(missing_ok=True)
    yield
    assert not MARK.exists(), "a payload ran"


def describe(checkpoint: Path, **settings: object) -> None:
    description = json.loads((checkpoint / "segmenter.json").read_text())
    description["segmenter"] |= settings
    description.pop("checksum", None)  # of the values before
    (checkpoint / "segmenter.json").write_text(json.dumps(description))


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_instead_of_weights_is_refused(checkpoint: Path, protocol: int) -> None:
    (checkpoint / "model.safetensors").write_bytes(pickle.dumps(Payload(), protocol=protocol))
    with pytest.raises(ValueError, match="holds no safetensors"):
        load_checkpoint(checkpoint)


def test_a_torch_file_with_a_payload_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    torch.save({"a": Payload()}, checkpoint / "model.safetensors")
    with pytest.raises(ValueError, match="holds no safetensors"):
        load_checkpoint(checkpoint)
    torch.save({"a": Payload()}, tmp_path / "weights.pth")
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        open_weights(tmp_path / "weights.pth")
    with pytest.raises(Exception, match=r"."):
        load_published(tmp_path / "weights.pth", learner="hsnet", masking="none", backbone="resnet50")


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\x00" * 100, (2**60).to_bytes(8, "little") + b"{}"])
def test_damaged_weights_raise_a_value_error(checkpoint: Path, data: bytes) -> None:
    (checkpoint / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="holds no safetensors"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{}", '{"segmenter": 7}', "not json", '{"segmenter": {"evil": 1}}', ""),
        '{"segmenter": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_damaged_descriptions_raise_a_value_error(checkpoint: Path, text: str) -> None:
    (checkpoint / "segmenter.json").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("settings", [{"width": 10**9}, {"image_size": 10**6}, {"grid": 10**5}])
def test_a_network_that_is_too_large_is_refused(checkpoint: Path, settings: dict[str, int]) -> None:
    describe(checkpoint, **settings)
    with pytest.raises(ValueError, match="asks for"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    "backbone", ["timm:hf-hub:evil/model", "timm:local-dir:/etc", "hf-hub:evil/model", "../../evil", "timm:https://x/y"]
)
def test_a_backbone_from_elsewhere_is_refused(checkpoint: Path, backbone: str) -> None:
    describe(checkpoint, backbone=backbone)
    with pytest.raises(ValueError, match=r"."):
        load_checkpoint(checkpoint)


def test_weights_that_the_description_names_are_not_opened(checkpoint: Path, tmp_path: Path) -> None:
    torch.save({"a": Payload()}, tmp_path / "weights.pth")
    describe(checkpoint, backbone_weights=str(tmp_path / "weights.pth"))
    assert load_checkpoint(checkpoint).config.width == 32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("image_size", value) for value in (0, -1, None, float("nan"), True, {}, "96", 96.5)),
        *(("width", value) for value in (0, 33, None, True)),
        *(("grid", value) for value in (0, -64, True, 64.0)),
        ("frozen", "yes"),
        ("learner", 3),
    ],
)
def test_a_setting_that_no_network_has_is_refused_by_its_name(checkpoint: Path, name: str, value: object) -> None:
    describe(checkpoint, **{name: value})
    with pytest.raises(ValueError, match=name):
        load_checkpoint(checkpoint)


def test_a_network_larger_than_its_weights_is_refused_before_it_takes_memory(checkpoint: Path) -> None:
    describe(checkpoint, width=4096)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"of another shape.*got \[32.*expected \[4096"):
        load_checkpoint(checkpoint)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB; the network has 5.8 GB


@pytest.mark.parametrize("change", ["nan", "inf", "int"])
def test_weights_that_are_no_numbers_of_their_kind_are_refused(checkpoint: Path, change: str) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    name, value = next((name, value) for name, value in tensors.items() if value.is_floating_point())
    tensors[name] = value.int() if change == "int" else torch.full_like(value, float(change))
    save_file(tensors, checkpoint / "model.safetensors")
    with pytest.raises(ValueError, match=rf"{name}.*(of another type|is NaN or infinite|got torch.int32)"):
        load_checkpoint(checkpoint)


def test_weights_of_another_network_are_refused(checkpoint: Path) -> None:
    describe(checkpoint, width=64)
    with pytest.raises(ValueError, match="the checkpoint"):
        load_checkpoint(checkpoint)
