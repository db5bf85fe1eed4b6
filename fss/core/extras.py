"""Packages that only some commands need, and the extra of this distribution that installs each of them.

Prediction needs none of them. A command that does checks for them with :func:`require` before it works.
"""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType

DISTRIBUTION = "fss-masks"

EXTRAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "track": ("mlflow", "pandas"),
        "cluster": ("ray", "boto3", "botocore", "psutil", "matplotlib"),
        "tune": ("optuna",),
        "relabel": ("faiss",),
        "timm": ("timm",),
        "hub": ("huggingface_hub",),
        "app": ("nicegui", "fastapi", "uvicorn"),
        "coco": ("pycocotools",),
        "heic": ("pillow_heif",),
        "onnx": ("onnx", "onnxscript", "onnxruntime"),
        "openvino": ("openvino",),
    }
)
"""The modules that each extra installs, besides those of the extras that it includes (see pyproject.toml)."""


def install_command(*extras: str) -> str:
    """Return the command that installs extras beside what is installed."""
    return f"pip install '{DISTRIBUTION}[{','.join(extras)}]'"


def extra_of(module: str | None) -> str | None:
    """Return the extra that installs a module, also one inside a package; None if no extra does."""
    package = (module or "").partition(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if package in modules), None)


def missing(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed, without importing any."""
    return [module for module in EXTRAS[extra] if not _is_installed(module)]


def require(*extras: str, what: str) -> None:
    """Refuse to go on without the packages of extras.

    Args:
        extras: names of extras.
        what: the command or setting that needs them, as the subject of the message.

    Raises:
        ValueError: packages are not installed; the message has the command that installs them.
    """
    absent = {extra: modules for extra in extras if (modules := missing(extra))}
    if absent:
        names = ", ".join(module for modules in absent.values() for module in modules)
        raise ValueError(explain(what, names, *absent))


def explain(what: str, names: str, *extras: str) -> str:
    """Return the line that says which packages are missing, and how to install them."""
    verb = "are" if "," in names else "is"
    return f"{what} needs {names}, which {verb} not installed. Install with: {install_command(*extras)}"


def _is_installed(module: str) -> bool:
    return sys.modules[module] is not None if module in sys.modules else find_spec(module) is not None
