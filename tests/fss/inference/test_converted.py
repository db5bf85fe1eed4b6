"""Queries segmented by ONNX Runtime or OpenVINO get the answers of PyTorch, or the back end is refused."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fss.inference import converted, parity
from fss.inference.predictor import Predictor
from fss.models import create_segmenter
from fss.models.config import Backend
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent, save_student
from fss.models.segmenter import FewShotSegmenter

BACKBONE = "timm:test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def network() -> FewShotSegmenter:
    return create_segmenter(backbone=BACKBONE, image_size=96, width=32).eval()


class Runtime:
    """Stands for ONNX Runtime: runs the modules themselves, with an error in their results."""

    def __init__(self) -> None:
        self.modules: dict[str, nn.Module] = {}
        self.written: list[str] = []
        self.error: Callable[[torch.Tensor], torch.Tensor] = lambda result: result

    def write(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
        self.written.append(path.name)
        self.modules[path.name] = copy.deepcopy(module)
        path.touch()

    def open(self, path: Path, backend: str, precision: str) -> Callable[[Any], list[torch.Tensor]]:
        def run(values: Any) -> list[torch.Tensor]:
            with torch.no_grad():
                result = self.modules[path.name](*values)
            return result if isinstance(result, list) else [self.error(result)]

        return run


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runtime:
    made = Runtime()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(converted, "check_episodes", lambda *size: parity.check_episodes(*size)[1:2])
    monkeypatch.setattr(converted, "check_backend", lambda backend, precision: "1.0")
    monkeypatch.setattr(converted, "write_onnx", made.write)
    monkeypatch.setattr(converted, "open_program", made.open)
    return made


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    return np.random.default_rng(height).integers(0, 255, (height, width, 3), dtype=np.uint8), mask


def converter(network: FewShotSegmenter, **settings: Any) -> Predictor:
    return Predictor(copy.deepcopy(network), **{"backend": "onnxruntime", **settings})


def converted_predictor(network: FewShotSegmenter, **settings: Any) -> Predictor:
    return Predictor(copy.deepcopy(network), **{"backend": "onnxruntime", **settings})


def test_queries_are_answered_as_by_pytorch(network: FewShotSegmenter, runtime: Runtime) -> None:
    (one, mask), (two, second), (query, _), (other, _) = (
        picture(*each) for each in [(60, 50), (70, 40), (80, 90), (50, 50)]
    )
    plain, fast = Predictor(copy.deepcopy(network)), converted_predictor(network)
    assert fast.path.name == "ONNX Runtime 1.0"
    for images, masks, negatives in [([one], [mask], []), ([one, two], [mask, second], [(two, (5, 5, 30, 50))])]:
        queries, settings = [query, other], {"batch_size": 2, "refine": False}
        expected, answers = (
            [*each.examples(images, masks, negatives=negatives).predict_many(queries, **settings)]
            for each in (plain, fast)
        )
        for one_expected, answer in zip(expected, answers, strict=True):
            np.testing.assert_allclose(answer.probability, one_expected.probability, atol=1e-5)
            assert answer.confidence == pytest.approx(one_expected.confidence, abs=1e-5)
    assert runtime.written == ["query.onnx", "compare-1.onnx", "compare-2.onnx"]


def test_a_network_is_converted_and_checked_once(
    network: FewShotSegmenter, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="fss.inference.converted"):
        converted_predictor(network).prepare(1)
    messages = " ".join(record.message for record in caplog.records)
    assert "converting the network (query) for ONNX Runtime" in messages and "kept in" in messages
    assert "the logits differ from PyTorch's by at most" in messages
    monkeypatch.setattr(converted, "check_episodes", lambda *_: pytest.fail("it has been checked"))
    converted_predictor(network).prepare(1)
    assert runtime.written == ["query.onnx", "compare-1.onnx"]
    other = copy.deepcopy(network)
    with torch.no_grad():
        next(other.learner.parameters()).add_(1e-3)
    converted_predictor(other)
    assert runtime.written[2:] == ["query.onnx"], "other weights are another network"


@pytest.mark.parametrize("cache", ["file", "~nobody-here/.cache"])
def test_a_cache_that_cannot_be_written_is_done_without(
    network: FewShotSegmenter, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    converted_predictor(network)
    assert runtime.written == ["query.onnx"]


@pytest.mark.parametrize("error", [lambda r: r + r.abs().max() * 2e-3, lambda r: r.flip(1), lambda r: r * torch.nan])
def test_a_back_end_that_answers_otherwise_is_refused(
    network: FewShotSegmenter, runtime: Runtime, error: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    runtime.error = error
    for _ in range(2):
        with pytest.raises(ValueError, match=r"the answers of ONNX Runtime 1.0 differ .*allowed are .*--backend torch"):
            converted_predictor(network).examples(*([each] for each in picture(60, 50)))


def test_a_network_that_cannot_be_converted_is_refused_in_one_line(
    network: FewShotSegmenter, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no operator\nand a long report")

    monkeypatch.setattr(converted, "write_onnx", fail)
    with pytest.raises(
        ValueError, match=r"masksplit on timm\S+ cannot be converted .*no operator.*--backend torch"
    ) as error:
        converted_predictor(network)
    assert "\n" not in str(error.value)


def test_a_back_end_needs_the_cpu(network: FewShotSegmenter, runtime: Runtime) -> None:
    with pytest.raises(ValueError, match=r"openvino runs on the CPU, got the device meta; use --device cpu"):
        converted_predictor(network, backend="openvino", device="meta")


def test_programs_are_checked_on_outlines_of_many_kinds() -> None:
    episodes = parity.check_episodes(2, 3, 90, 110)
    for query, supports, masks in episodes:
        assert (query.shape, supports.shape, masks.shape) == ((2, 3, 90, 110), (2, 3, 3, 90, 110), (2, 3, 90, 110))
        assert set(masks.unique().tolist()) == {0.0, 1.0}
    shares = [float(masks.mean()) for *_, masks in episodes]
    assert min(shares) < 0.01 < 0.04 < sorted(shares)[1] < 0.1 < max(shares) < 0.6, "small, thin, and large objects"
    painted = episodes[-1]
    assert not torch.equal(painted[1][:, 0], painted[1][:, 1]), "each support is another picture"


def test_a_difference_that_is_no_number_is_too_much() -> None:
    logits = torch.randn(1, 2, 4, 4)
    assert parity.compare([(logits, logits)]).within(logits=0, decisions=0)
    assert not parity.compare([(logits, logits), (logits * torch.nan, logits)]).within(logits=1, decisions=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"learner": "masksplit"}, 192),
        ({"learner": "masksplit"}, 200),
        ({"learner": "density"}, 136),
        ({"density_prior": True, "saliency_prior": "student"}, 96),
        ({"learner": "hsnet", "masking": "hybrid"}, 200),
        ({"learner": "asnet", "masking": "none"}, 104),
        ({"learner": "asnet", "masking": "hybrid"}, 96),
        ({"learner": "vat", "masking": "feature"}, 96),
    ],
    ids=str,
)
def test_real_runtimes_pass_the_check(
    settings: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both read the same programs, which take a minute to write; a student sees smaller images than the network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if "saliency_prior" in settings:
        save_student(SaliencyStudent(StudentConfig(image_size=64, width=16)), tmp_path / "student", metadata={})
        settings = {**settings, "saliency_prior": str(tmp_path / "student")}
    segmenter = create_segmenter(**settings, backbone=BACKBONE, image_size=size)
    backends: list[Backend] = ["onnxruntime", "openvino"]
    for backend in backends:
        pytest.importorskip(backend, reason=f"{backend} is not installed")
        predictor = Predictor(segmenter, backend=backend)
        for shots in (1, 2):
            predictor.prepare(shots)
