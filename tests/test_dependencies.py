"""What the library and the jobs import is declared in pyproject.toml, and what is declared is imported."""

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from fss.core.extras import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN = {"fss", "pipelines", "tests"}
EXTRA_MODULES = {
    "cluster": ("pipelines", "fss.core.versioned"),
    "track": (
        "fss.tracking",
        "fss.inference.mlflow_model",
        "fss.inference.model_files",
        "fss.inference.hub",
        "pipelines.lineage",
        "pipelines.runtime.mlflow_run",
        "pipelines.tuning.registration_gate",
    ),
    "tune": ("pipelines.tuning",),
    "relabel": ("fss.relabel",),
    "timm": ("fss.models.backbones", "fss.saliency.vit"),
    "hub": ("fss.inference.hub",),
    "app": (
        "fss.app.comparison_tab",
        "fss.app.editor",
        "fss.app.gallery",
        "fss.app.page",
        "fss.app.panel",
        "fss.app.server",
    ),
    "coco": ("fss.images.outlines",),
    "heic": ("fss.images.decode",),
    "onnx": ("fss.inference.runtimes",),
    "openvino": ("fss.inference.runtimes",),
}
"""The modules, or packages of them, that may import the packages of each extra."""
USED_BY_OTHERS = {
    "onnx": "torch.onnx",
}
"""Distributions that another package imports for us without requiring them, and which package."""


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    names = {normalised(re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]) for requirement in requirements}
    return names - {normalised(PROJECT["name"])}


def imported_modules(path: Path) -> Iterator[str]:
    """The top-level names of the imports of a module, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@functools.cache
def third_party_imports(*folders: str) -> dict[str, set[str]]:
    """The modules below ``folders`` that import each third-party package."""
    importers: dict[str, set[str]] = {}
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in {*imported_modules(path)} - OWN - sys.stdlib_module_names:
            importers.setdefault(name, set()).add(module)
    return importers


def imported_distributions(*folders: str) -> dict[str, set[str]]:
    """Distributions that may provide each third-party import below ``folders``, by the import's name."""
    providers = packages_distributions()
    names = third_party_imports(*folders)
    return {name: {normalised(each) for each in providers.get(name, [name])} for name in names}


def modules_of_extras() -> list[str]:
    """Top-level modules that are installed, but neither by required distributions nor by what these require."""
    distributions, waiting = {normalised(PROJECT["name"])}, sorted(RUNTIME)
    while waiting:
        name = waiting.pop()
        if name in distributions:
            continue
        distributions.add(name)
        try:
            requirements = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue
        waiting += [normalised(each.name) for each in requirements if not each.marker or each.marker.evaluate()]
    providers = packages_distributions().items()
    return sorted(module for module, names in providers if not {normalised(name) for name in names} & distributions)


RUNTIME = declared(PROJECT["dependencies"])
OPTIONAL = {extra: declared(names) for extra, names in PROJECT["optional-dependencies"].items()}
USER_EXTRAS = set().union(*(names for extra, names in OPTIONAL.items() if extra != "dev"))


def test_every_import_is_declared() -> None:
    allowed = RUNTIME | USER_EXTRAS
    missing = {
        name for name, providers in imported_distributions("fss", "pipelines").items() if not providers & allowed
    }
    assert not missing, f"declare these in pyproject.toml: {sorted(missing)}"


def test_every_dependency_is_imported() -> None:
    providers = set().union(*imported_distributions("fss", "pipelines").values()) | set(USED_BY_OTHERS)
    unused = (RUNTIME | USER_EXTRAS) - providers
    assert not unused, f"nothing imports these dependencies: {sorted(unused)}"


def test_all_installs_every_extra() -> None:
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert set(Requirement(everything).extras) == {*OPTIONAL} - {"all", "dev"}
    assert Requirement(PROJECT["optional-dependencies"]["dev"][0]).extras == {"all"}


def test_extras_are_those_that_messages_name() -> None:
    assert [*EXTRAS, "all", "dev"] == [*OPTIONAL]
    providers = packages_distributions()
    for extra, modules in EXTRAS.items():
        distributions = [{normalised(each) for each in providers.get(name, [name])} for name in modules]
        assert all(names & OPTIONAL[extra] for names in distributions), extra
        assert not OPTIONAL[extra].difference(*distributions), extra


@pytest.mark.parametrize("extra", EXTRAS)
def test_packages_of_an_extra_are_what_its_modules_import(extra: str) -> None:
    """No other module imports them, so the plain distribution needs none of them."""
    imports = third_party_imports("fss", "pipelines")
    for name in EXTRAS[extra]:
        if name not in USED_BY_OTHERS:
            outside = {each for each in imports.get(name, ()) if not within(each, EXTRA_MODULES[extra])}
            assert name in imports and not outside, f"{outside or 'no module'} imports {name} of the extra {extra}"
    for home in EXTRA_MODULES[extra]:
        assert any(within(each, (home,)) for name in EXTRAS[extra] for each in imports.get(name, ())), home


def within(module: str, packages: Iterable[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def test_every_import_of_a_test_is_declared() -> None:
    allowed = RUNTIME.union(*OPTIONAL.values())
    through_declared = {"jsonschema": "moto", "requests": "moto", "nbformat": "nbclient"}
    through_declared |= {"starlette": "mlflow", "werkzeug": "moto", "yaml": "moto"}
    assert set(through_declared.values()) <= allowed
    imports = imported_distributions("tests")
    missing = {name for name, providers in imports.items() if not providers & allowed} - set(through_declared)
    assert not missing, f"declare these in pyproject.toml: {sorted(missing)}"


def test_every_declared_distribution_has_a_tested_version() -> None:
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    lines = [line for line in pinned if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines), "a constraint is NAME==VERSION"
    names = [normalised(line.split("==")[0]) for line in lines]
    assert len(names) == len(set(names))
    missing = RUNTIME.union(*OPTIONAL.values()) - set(names)
    assert not missing, f"name these in constraints.txt: {sorted(missing)}"
