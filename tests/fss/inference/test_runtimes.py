"""ONNX Runtime and OpenVINO run a program, and say what they lack."""

import sys
import types
from pathlib import Path

import pytest
import torch

from fss.inference.runtimes import check_backend, open_program


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_runtime_returns_all_results_in_their_order(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    from onnx import TensorProto, helper

    def value(name: str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])

    nodes = [helper.make_node("Sub", ["a", "b"], ["difference"]), helper.make_node("Relu", ["a"], ["positive"])]
    inputs, outputs = [value("a"), value("b"), value("unused")], [value("difference"), value("positive")]
    graph = helper.make_graph(nodes, "program", inputs, outputs)
    path = tmp_path / "program.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    program = open_program(path, backend)
    a, b = torch.randn(3, 2).T, torch.randn(2, 3)
    for _ in range(2):
        difference, positive = program([a, b, b])
        torch.testing.assert_close(difference, a - b)
        torch.testing.assert_close(positive, a.relu())
        a = a + 1


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    runtime = types.SimpleNamespace(
        __version__="2026.4.1-build", Core=lambda: types.SimpleNamespace(get_property=lambda *_: ["FP32"])
    )
    monkeypatch.setitem(sys.modules, "openvino", runtime)
    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace(__version__="1.31"))
    assert (check_backend("openvino", "fp32"), check_backend("onnxruntime", "fp32")) == ("2026.4.1", "1.31")
    for backend, precision, message in [
        ("openvino", "bf16", "this CPU has no bfloat16 instructions.*leave out --precision"),
        ("openvino", "tf32", "OpenVINO has the precision fp32 and bf16, got tf32"),
        ("onnxruntime", "bf16", "ONNX Runtime has the precision fp32, got bf16; leave out --precision"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_backend(backend, precision)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ValueError, match=r"pip install 'fss-masks\[openvino\]'"):
        check_backend("openvino", "fp32")
