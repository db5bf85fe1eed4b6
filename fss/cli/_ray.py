"""Compare the GPUs that Ray counts with those that the driver and torch see."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

REPORT = "pipelines.runtime.gpu_report"
"""Module that asks Ray; it runs in a process of its own, because the library does not use Ray."""
ANSWER_S = 300.0


def compare_with_ray() -> tuple[str, bool]:
    """Ask a cluster, or a local Ray of its own; return a sentence for each machine, and whether all agree."""
    command = [sys.executable, "-m", REPORT]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired:
        return f"does not answer within {ANSWER_S:.0f} s: python -m {REPORT}", False
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"python -m {REPORT} failed"]
        return lines[-1], False
    rows = json.loads(ended.stdout.strip().splitlines()[-1])
    return "; ".join(sentence(row) for row in rows), all(agree(row) for row in rows)


def agree(row: Mapping[str, Any]) -> bool:
    """Return whether Ray counts the GPUs of a machine that torch can use."""
    return row["problem"] is None and row["ray"] == row["torch"]


def sentence(row: Mapping[str, Any]) -> str:
    """Return what Ray, the driver and torch say about a machine, and what to do if they disagree."""
    machine, counted = row["address"], row["ray"]
    if row["driver"] is None:
        return f"{machine}: Ray counts {counted} GPUs, but {row['problem']}"
    if row["problem"]:
        return f"{machine}: Ray counts {counted} GPUs, which torch cannot use: {row['problem']}; or give --device cpu"
    if agree(row):
        return f"{machine}: Ray and torch count {counted} GPUs" if counted else f"{machine}: no GPU"
    seen = f"{machine}: Ray counts {counted} GPUs, the driver shows {row['driver']}, and torch can use {row['torch']}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hint = f" (CUDA_VISIBLE_DEVICES is {visible!r} here)" if visible is not None else ""
    return f"{seen}{hint}; start Ray again with --num-gpus {row['torch']}, or give --device cpu"
