"""The precision of a network's arithmetic: one setting with one meaning, in training, evaluation and prediction.

========  ================================================================================
fp32      float32 throughout; NVIDIA's TF32 is off, also in convolutions, where torch has it on
tf32      float32, of which convolutions and matrix products round their factors to 10 bits (TF32; NVIDIA GPUs)
bf16      bfloat16 under autocast, TF32 for the rest; inference on a CPU runs the backbone alone in bfloat16
          (``fss.models.speed``)
========  ================================================================================
"""

from contextlib import AbstractContextManager, nullcontext

import torch

from fss.models.config import Precision


def set_precision(precision: Precision) -> None:
    """Turn TF32 on or off in this process; bfloat16 also needs :func:`autocast` around each forward pass."""
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.allow_tf32 = precision != "fp32"


def autocast(device: str | torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context of a forward pass on a device."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)
