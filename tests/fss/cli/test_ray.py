"""The doctor compares Ray's GPUs with those of the driver and of torch."""

import json
import subprocess
import sys
from typing import Any

import pytest

from fss.cli import _ray, doctor


def row(ray: int, driver: int | None, torch: int | None, problem: str | None = None) -> dict[str, Any]:
    return {"address": "10.0.0.3", "ray": ray, "driver": driver, "torch": torch, "problem": problem}


@pytest.mark.parametrize(
    ("seen", "agreed", "words"),
    [
        (row(0, 0, 0), True, "10.0.0.3: no GPU"),
        (row(4, 4, 4), True, "10.0.0.3: Ray and torch count 4 GPUs"),
        (row(1, 0, 0), False, "Ray counts 1 GPUs, the driver shows 0, and torch can use 0"),
        (
            row(0, 2, 2),
            False,
            "Ray counts 0 GPUs, the driver shows 2, and torch can use 2; start Ray again with --num-gpus 2",
        ),
        (
            row(2, 2, 0, "torch is built for CUDA 13"),
            False,
            "torch cannot use: torch is built for CUDA 13; or give --device",
        ),
        (row(8, None, None, "it did not answer within 60 s"), False, "Ray counts 8 GPUs, but it did not answer"),
    ],
)
def test_a_machine_in_one_sentence(seen: dict[str, Any], agreed: bool, words: str) -> None:
    assert _ray.agree(seen) == agreed
    assert words in _ray.sentence(seen)


def answers(monkeypatch: pytest.MonkeyPatch, code: int, stdout: str = "", stderr: str = "") -> None:
    ended = subprocess.CompletedProcess([], code, stdout, stderr)
    monkeypatch.setattr(_ray.subprocess, "run", lambda *_, **__: ended)


def test_all_machines_have_to_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    answers(monkeypatch, 0, "started\n" + json.dumps([row(2, 2, 2), row(0, 0, 0)]))
    check = doctor.ray_check("auto")
    assert check.ok
    assert check.result == (
        "jobs join the cluster 10.0.0.1:6379; 10.0.0.3: Ray and torch count 2 GPUs; 10.0.0.3: no GPU"
    )
    answers(monkeypatch, 0, json.dumps([row(2, 2, 2), row(1, 1, 0, "no driver")]))
    assert not doctor.ray_check("auto").ok
    answers(monkeypatch, 2, stderr="warning\ngpu_report: RAY_ADDRESS is 'x', but no Ray cluster answers there\n")
    check = doctor.ray_check("auto")
    assert not check.ok and "no Ray cluster answers there" in check.result and "warning" not in check.result


def test_ray_is_not_started_where_there_is_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(_ray.subprocess, "run", lambda *_, **__: pytest.fail("Ray was asked"))
    monkeypatch.setattr(doctor, "gpu_count", lambda: 0)
    assert doctor.ray_check("auto") == doctor.Check("Ray", "jobs start one on this machine")
    monkeypatch.setattr(doctor, "gpu_count", lambda: 2)
    assert doctor.ray_check("never").ok
    answers(monkeypatch, 0, json.dumps([row(2, 2, 2)]))
    assert doctor.ray_check("auto").result.endswith("Ray and torch count 2 GPUs")


def test_the_doctor_tells_which_extras_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ray", "optuna"):
        monkeypatch.setitem(sys.modules, module, None)
    check = doctor.Check("Ray", "is not installed, which jobs need: pip install 'fss-masks[cluster]'")
    assert (doctor.ray_check("auto"), doctor.ray_check("always").ok) == (check, False)
    (extras,) = [check.result for check in doctor.packages() if check.name == "extras"]
    installed, absent = extras.split("; not installed: ")
    assert "timm" in installed and "cluster, tune" in absent and "pip install 'fss-masks[all]'" in absent
