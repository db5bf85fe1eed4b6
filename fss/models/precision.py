"""The precision of a network's arithmetic: one setting with one meaning, in training, evaluation and prediction.

========  ================================================================================
fp32      float32 throughout; NVIDIA's TF32 is off, also in convolutions, where torch has it on
tf32      float32, of which convolutions and matrix products round their factors to 10 bits (TF32; NVIDIA GPUs)
bf16      bfloat16 under autocast, TF32 for the rest; on a CPU a fused backbone runs in bfloat16 and the rest in float32
          (``fss.models.speed``)
========  ================================================================================

A device that lacks the precision is refused: it would compute in float32, or emulate bfloat16 in fifty times the time.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import get_args

import torch

from fss.models.config import Precision


def require_precision(precision: Precision, device: str | torch.device) -> None:
    """Check that a device of this machine has a precision.

    Raises:
        ValueError: there is no such precision, TF32 is asked of a device that is no NVIDIA GPU, or bfloat16 of a CPU
            without its instructions.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"the precision must be {', '.join(get_args(Precision))}, got {precision!r}")
    kind = torch.device(device).type
    if precision == "tf32" and kind != "cuda":
        raise ValueError(f"the precision tf32 is for NVIDIA GPUs, and the device is {kind}; give --precision fp32")
    if precision == "bf16" and kind == "cpu" and not cpu_has_bfloat16():
        raise ValueError(
            "the precision bf16 needs a CPU with AVX-512 or AVX-NE-CONVERT; this one would take fifty times as long; "
            "give --precision fp32"
        )


def cpu_has_bfloat16() -> bool:
    """Return whether oneDNN convolves in bfloat16 on this CPU."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def set_precision(precision: Precision, device: str | torch.device) -> None:
    """Check the precision of a device, and turn TF32 on or off in this process.

    bfloat16 also needs :func:`autocast` around each forward pass.

    Raises:
        ValueError: the device does not have the precision.
    """
    require_precision(precision, device)
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.allow_tf32 = precision != "fp32"


def autocast(device: str | torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context of a forward pass on a device."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)
