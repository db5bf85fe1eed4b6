"""A picture that ends the process that decodes it, as a fault in compiled code does.

Python imports this module at its start wherever this folder is on ``PYTHONPATH``. The variable FSS_CAMPAIGN_POISON is
the beginning of the picture's id, which is the hash of its bytes.
"""

import hashlib
import os
import signal
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

DECODER = "fss.images.decode"


class PoisonedDecoder(MetaPathFinder):
    """Replaces the function of the decoder through which all pictures go, as soon as the module is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of the decoder, whose loader replaces the function; None for other modules."""
        spec = PathFinder.find_spec(fullname, path) if fullname == DECODER else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_poison(module: ModuleType) -> None:
            execute(module)
            open_image, poison = module.open_image, os.environ["FSS_CAMPAIGN_POISON"]

            def open_or_die(data: bytes, limits: Any) -> Any:
                if hashlib.sha256(data).hexdigest().startswith(poison):
                    os.kill(os.getpid(), signal.SIGSEGV)
                return open_image(data, limits)

            module.open_image = open_or_die  # type: ignore[attr-defined]

        spec.loader.exec_module = execute_and_poison  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, PoisonedDecoder())
