"""One version in every file that names it, and nothing that a wheel would leave out."""

import fnmatch
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml

import fss

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


def test_the_version_has_one_source() -> None:
    assert "version" not in PYPROJECT["project"] and PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "fss.__version__"}
    assert version(PYPROJECT["project"]["name"]) == fss.__version__


def test_citation_names_the_version_and_three_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == fss.__version__
    assert citation["license"] == PYPROJECT["project"]["license"]
    assert [paper["year"] for paper in citation["references"]] == [2022] * 3


def test_changelog_has_unreleased_changes_and_a_dated_section_of_this_version() -> None:
    sections = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", CHANGELOG, re.MULTILINE)
    assert sections[0] == ("Unreleased", "")
    assert fss.__version__ in dict(sections)
    assert all(date for _, date in sections[1:])


def test_package_data_reaches_the_wheel() -> None:
    """setuptools packages modules by itself; every other file of the library must match a pattern."""
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["fss"]
    files = [path for path in (ROOT / "fss").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    data = [str(path.relative_to(ROOT / "fss")) for path in files if path.suffix != ".py"]
    assert {"py.typed", "evaluation/claims.csv"} <= set(data)
    covered = {path for path in data for pattern in patterns if fnmatch.fnmatch(path, pattern.replace("**/", "*"))}
    assert set(data) - covered <= {"README.md"}


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for top in ("fss", "pipelines") for path in (ROOT / top).rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]
