"""A process without the packages of any extra, which uses the others; run by tests/fss/test_light_imports.py.

python -m tests.helpers.plain_install ABSENT,MODULES FOLDER [JOB ...]

It predicts by the command line, and prints, as JSON, what each verb and job answers.
"""

import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from fss.core.exit_codes import exit_cleanly


class Installed(PathFinder):
    """Finds everything but the modules of packages that the plain distribution does not install."""

    absent: frozenset[str]

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return None for what is absent."""
        return None if path is None and name in cls.absent else super().find_spec(name, path, target)


def answer(call: Callable[[], object]) -> tuple[object, str]:
    """Return the exit code of a command, and what it writes to standard error."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()), exit_cleanly("fss"):
            call()
    except SystemExit as end:
        return end.code, errors.getvalue().strip()
    return 0, errors.getvalue().strip()


def main() -> None:
    """Print the answers."""
    absent, folder, jobs = sys.argv[1].split(","), Path(sys.argv[2]), sys.argv[3:]
    Installed.absent = frozenset(absent)
    sys.meta_path[2:] = [Installed]  # the first two find what is compiled into Python
    import cv2
    import numpy as np

    import fss.cli.main
    from fss.models import create_segmenter, save_checkpoint

    def verb(*words: str) -> tuple[object, str]:
        return answer(lambda: fss.cli.main.main(words))

    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "picture.png"), picture)
    cv2.imwrite(str(folder / "mask.png"), np.pad(np.full((20, 20), 255, np.uint8), ((10, 10), (10, 20))))
    network = create_segmenter(learner="density", masking="none", backbone="mobilenet_v2", image_size=64)
    save_checkpoint(network, folder / "model")
    words = ["--support", f"{folder}/picture.png:{folder}/mask.png", "--query", f"{folder}/picture.png"]
    words += ["--output", f"{folder}/masks"]
    answers = {"prediction": verb("predict", "--model", f"{folder}/model", *words)}
    answers |= {model: verb("predict", "--model", model, *words) for model in ("hf://user/name", "models:/name/1")}
    answers |= {name: verb(name, "--help") for name in fss.cli.main.VERBS}
    sys.argv = ["job", "--help"]
    for name in jobs:
        answers[f"pipelines.{name}"] = answer(importlib.import_module(f"pipelines.{name}").main)
    answers["backbone"] = answer(lambda: create_segmenter(backbone="vit_small_patch16_224.dino"))
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
