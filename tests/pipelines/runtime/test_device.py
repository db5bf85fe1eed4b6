"""The device of a job: said in the first line, refused where Ray and torch disagree."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fss.core import system
from fss.models import precision
from pipelines.runtime import device
from pipelines.runtime.device import resolve_device


def test_the_device_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(device, "_ray_is_ready", lambda: False)
    monkeypatch.setattr(device, "_local_gpus", lambda: 0)
    monkeypatch.setattr(device, "_mps_available", lambda: False)
    device._said.clear()
    assert resolve_device("auto") == resolve_device("auto") == resolve_device("cpu") == "cpu"
    assert capsys.readouterr().err == "networks run on cpu (this machine has no GPU)\n"
    with pytest.raises(ValueError, match="tf32 is for NVIDIA GPUs, and the device is cpu; give --precision fp32"):
        resolve_device("auto", precision="tf32")
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="bf16 needs a CPU with AVX-512"):
        resolve_device("cpu", precision="bf16")
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # the CPUs of a cluster may be others
    assert resolve_device("cpu", precision="bf16") == "cpu"


def test_a_gpu_that_torch_cannot_use_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(device, "_ray_is_ready", lambda: False)
    monkeypatch.setattr(device, "_local_gpus", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(system, "nvidia_driver", lambda: "535.183.01")
    expected = "the driver shows 2 GPUs that torch cannot use: .* for CUDA 13.2.*driver is 535.183.01.*cu126"
    for name in ("auto", "cuda"):
        with pytest.raises(ValueError, match=expected):
            resolve_device(name, workers=2)  # type: ignore[arg-type]
    assert resolve_device("cpu") == "cpu"


def test_the_driver_of_both_kinds_of_kernel_modules(tmp_path: Path) -> None:
    file = tmp_path / "version"
    assert system.nvidia_driver(file) is None
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n")
    assert system.nvidia_driver(file) == "535.183.01"
    file.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n")
    assert system.nvidia_driver(file) == "580.65.06"


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU is real here")
def test_a_ray_that_reports_a_gpu_which_torch_cannot_use_is_refused() -> None:
    code = (
        "import ray; ray.init(num_gpus=1, num_cpus=2, include_dashboard=False)\n"
        "from pipelines.runtime.device import resolve_device\n"
        "from pipelines.runtime.gpu_report import report\n"
        "print(report())\n"
        "resolve_device('auto')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert "'ray': 1, 'driver': 0, 'torch': 0, 'problem': None}]" in ended.stdout
    assert "ValueError: Ray reports 1 GPUs that torch cannot use: torch" in ended.stderr
    assert "or give --device cpu" in ended.stderr
