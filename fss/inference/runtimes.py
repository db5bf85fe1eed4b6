"""Write a network as ONNX, and run such programs by ONNX Runtime or OpenVINO on the CPU."""

import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fss.core.extras import require
from fss.models.backbones.vit import explicit_attention
from fss.models.config import Backend, Precision

Program = Callable[[Sequence[Tensor]], list[Tensor]]
"""Returns the results of a program for its inputs, float32 on the CPU."""
_OPSET = 18
_EXTRAS = {"onnxruntime": ("onnx",), "openvino": ("onnx", "openvino")}
NAMES: dict[Backend, str] = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def write_onnx(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> None:
    """Write a module as an ONNX file of fixed sizes, its weights inside.

    Raises:
        ValueError: packages are missing.
    """
    require("onnx", what="a program for ONNX")
    from onnxscript.optimizer import fold_constants, remove_unused_nodes

    with explicit_attention(module), warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            opset_version=_OPSET,
            input_names=input_names,
            output_names=output_names,
            verbose=False,
            optimize=False,  # its rewriter takes time by the square of the nodes, and the runtimes fuse by themselves
        )
    assert program is not None
    fold_constants(program.model)
    remove_unused_nodes(program.model)
    program.save(path, external_data=False)


def check_backend(backend: Backend, precision: Precision) -> str:
    """Check that a runtime is installed and has a precision, and return its version.

    Raises:
        ValueError: a package is missing, or the runtime or this CPU does not have the precision.
    """
    require(*_EXTRAS[backend], what=f"the back end {backend}")
    package = _import(backend)
    if precision == "fp32":
        return str(package.__version__).split("-")[0]
    advice = "leave out --precision, or use --backend torch"
    if backend != "openvino" or precision != "bf16":
        has = "fp32 and bf16" if backend == "openvino" else "fp32"
        raise ValueError(f"{NAMES[backend]} has the precision {has}, got {precision}; {advice}")
    if "BF16" not in package.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ValueError(f"this CPU has no bfloat16 instructions, so OpenVINO computes in fp32; {advice}")
    return str(package.__version__).split("-")[0]


def _import(backend: Backend) -> Any:
    if backend == "onnxruntime":
        import onnxruntime

        return onnxruntime
    import openvino

    return openvino


def open_program(path: Path, backend: Backend, precision: Precision = "fp32") -> Program:
    """Open an ONNX file in a runtime that is installed, with as many threads as PyTorch has."""
    return {"onnxruntime": _onnxruntime, "openvino": _openvino}[backend](path, precision)


def _onnxruntime(path: Path, _: Precision) -> Program:
    runtime = _import("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(values: Sequence[Tensor]) -> list[Tensor]:
        results = session.run(None, dict(zip(names, _arrays(values), strict=True)))
        return [torch.from_numpy(result) for result in results]

    return run


def _openvino(path: Path, precision: Precision) -> Program:
    core = _import("openvino").Core()
    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    turn = threading.Lock()  # a request holds the memory of one call

    def run(values: Sequence[Tensor]) -> list[Tensor]:
        with turn:
            results = request.infer(_arrays(values), share_inputs=True)
            return [torch.from_numpy(np.array(result)) for result in results.values()]

    return run


def _arrays(values: Sequence[Tensor]) -> list[Any]:
    return [value.detach().cpu().contiguous().numpy() for value in values]
