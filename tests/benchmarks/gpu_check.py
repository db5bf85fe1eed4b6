"""Check the networks and the training step on a GPU, and measure their speed at published sizes.

    python -m tests.benchmarks.gpu_check                    # all sections, on CUDA
    python -m tests.benchmarks.gpu_check --only 1 2 6
    python -m tests.benchmarks.gpu_check --device cpu --tiny

It needs no data, and neither Ray, MLflow, boto3, Optuna nor FAISS; of the other dependencies it needs those of the
library: annotated-types, cachetools, lazy-loader, numba, OpenCV, pyarrow, pydantic, safetensors, scikit-image, SciPy,
tenacity, timm, torch, torchvision and tyro. FSS_SHARED_GOLDEN names the folder of the reference outputs (section 3).

Every check prints ``PASS|FAIL name value limit`` or, without a limit, ``INFO name value``. The last line is a JSON
object with the results and the table of measurements. The exit code is 1 if a check failed. The sections are sized for
475 seconds on one GPU; one that would begin later (``--seconds``) is not run, which counts as failed.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence

import torch

from fss.models.precision import set_precision
from tests.benchmarks.gpu import numerics, speed, training
from tests.benchmarks.gpu.checks import Checks

SECTIONS: dict[int, tuple[Callable[[Checks], None], ...]] = {
    0: (numerics.environment,),
    1: (numerics.operators,),
    2: (numerics.learners,),
    3: (numerics.goldens,),
    4: (numerics.rendering,),
    5: (training.training,),
    6: (training.workers,),
    7: (speed.training_speed, speed.feeding),
    8: (training.compilation,),
    9: (speed.evaluation,),
}
BUDGET_S = 475.0


def run(checks: Checks, only: Sequence[int], *, budget_s: float = BUDGET_S) -> Checks:
    """Run some sections; an error in one is a failed check and does not hide the others."""
    set_precision("fp32", "cuda")
    torch.manual_seed(0)
    first = time.perf_counter()
    for number in only:
        start = time.perf_counter()
        if start - first > budget_s:
            checks.limit(f"{number} begins in time", start - first, budget_s)
            continue
        for section in SECTIONS[number]:
            try:
                section(checks)
            except Exception:
                traceback.print_exc()
                checks.limit(f"{number} {section.__name__} ends without an error", 1, 0)
            set_precision("fp32", "cuda")
            if checks.device.type == "cuda":
                torch.cuda.empty_cache()
        print(f"section {number}: {time.perf_counter() - start:.0f} s", flush=True)
    return checks


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="*", choices=[*SECTIONS], default=[*SECTIONS], help="sections")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks and pictures, for a CPU")
    parser.add_argument("--seconds", type=float, default=BUDGET_S, help="time after which no section begins")
    options = parser.parse_args()
    device = torch.device(options.device)
    checks = run(Checks.tiny(device) if options.tiny else Checks(device), options.only, budget_s=options.seconds)
    print(json.dumps({"failed": checks.failed, "results": checks.results, "table": checks.table}))
    return int(checks.failed)


if __name__ == "__main__":
    sys.exit(main())
