"""What the library and the jobs import is declared in pyproject.toml, and what is declared is imported."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN = {"fss", "pipelines", "tests"} | {path.stem for path in (ROOT / "tests/benchmarks").glob("*.py")}
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


def imported_distributions(*folders: str) -> dict[str, set[str]]:
    """Distributions that may provide each third-party import below ``folders``, by the import's name."""
    providers = packages_distributions()
    names = {name for folder in folders for path in (ROOT / folder).rglob("*.py") for name in imported_modules(path)}
    names -= OWN | sys.stdlib_module_names
    return {name: {normalised(each) for each in providers.get(name, [name])} for name in names}


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
