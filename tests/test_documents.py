"""What the documents say is there is there: paths, modules, commands with their flags, and code that runs."""

import ast
import dataclasses
import importlib
import re
import typing
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.helpers.commands import job_flags, parse_command, shown_commands

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    name: (ROOT / name).read_text()
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "fss/README.md",
        "pipelines/README.md",
        "infra/README.md",
        "tests/benchmarks/README.md",
    )
}
JOBS = sorted(path for path in (ROOT / "pipelines").glob("*.py") if path.name != "__init__.py")
WITH_COMMANDS = DOCUMENTS | {
    str(path.relative_to(ROOT)): ast.get_docstring(ast.parse(path.read_text())) or ""
    for path in [*JOBS, *sorted((ROOT / "fss/cli").glob("*.py"))]
}
COMMANDS = {" ".join(words): words for text in WITH_COMMANDS.values() for words in shown_commands(text)}


def python_blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCUMENTS[name], re.DOTALL)


def test_readme_is_short_and_begins_with_two_commands() -> None:
    text = DOCUMENTS["README.md"]
    assert len(text.splitlines()) <= 130
    assert len(text.encode()) <= 8 * 1024
    commands = [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("    ")]
    assert commands[:2] == ["make run", "make test"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_that_is_named_exists(name: str) -> None:
    text, folder = DOCUMENTS[name], (ROOT / name).parent
    paths = set(
        re.findall(r"\b(?:fss|pipelines|tests|infra|notebooks)/[\w/.-]+\.(?:py|csv|ipynb|md|json|yaml|jpg)", text)
    )
    assert not [path for path in paths if not ((ROOT / path).exists() or (folder / path).exists())]
    links = {link.split("#")[0] for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text)}
    assert not [link for link in links if not (folder / link).exists()]
    modules = set(re.findall(r"\bpipelines\.[a-z_]+", text)) | set(re.findall(r"\bfss(?:\.[a-z_]+)+", text))
    assert not [module for module in modules if not module_or_attribute_exists(module)]


def module_or_attribute_exists(name: str) -> bool:
    """Whether a dotted name is a module, a package, or what one offers."""
    path = ROOT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    parent, _, attribute = name.rpartition(".")
    return hasattr(importlib.import_module(parent), attribute)


def test_every_module_group_is_in_the_source_tree_and_exists() -> None:
    tree = DOCUMENTS["fss/README.md"].split("## Source tree")[1]
    listed = set(re.findall(r"^      ([a-z_]+(?:/|\.py)) ", tree, re.MULTILINE))
    present = {f"{path.name}/" if path.is_dir() else path.name for path in (ROOT / "fss").iterdir()}
    assert listed == {name for name in present if not name.startswith("_") and name.endswith(("/", ".py"))}


def test_every_job_has_a_section_and_a_row() -> None:
    names = [path.stem for path in JOBS]
    assert sorted(re.findall(r"^## (\w+)$", DOCUMENTS["pipelines/README.md"], re.MULTILINE)) == names
    assert sorted(re.findall(r"^\| `pipelines\.(\w+)` \|", DOCUMENTS["README.md"], re.MULTILINE)) == names


def test_layers_of_the_guide_are_those_that_are_checked() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text().split("layers = [")[1].split("]")[0]
    checked = [sorted(re.findall(r"fss\.(\w+)", line)) for line in pyproject.splitlines() if "fss." in line]
    guide = DOCUMENTS["fss/README.md"].split("## Layers")[1].split("##")[0]
    assert [sorted(line.split()) for line in guide.splitlines() if line.startswith("    ")] == checked


def test_documents_show_commands_of_every_job() -> None:
    assert {words[2] for words in COMMANDS.values() if words[0] == "python"} == {
        f"pipelines.{path.stem}" for path in JOBS
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_its_parser_takes(command: str) -> None:
    parse_command(COMMANDS[command])


@pytest.mark.parametrize("name", ["README.md", "pipelines/README.md"])
def test_every_flag_that_is_named_exists(name: str) -> None:
    flags = {"help", "help-all", "config", "preset"}.union(*(job_flags(f"pipelines.{path.stem}") for path in JOBS))
    named = set(re.findall(r"`--([a-z][\w.*-]*)", DOCUMENTS[name]))
    assert named
    assert not [flag for flag in named if not any(re.fullmatch(flag.replace("*", ".+"), each) for each in flags)]


def test_flags_of_benchmark_commands_are_those_of_their_scripts() -> None:
    scripts = [path.read_text() for path in (ROOT / "tests/benchmarks").glob("*.py")]
    shown = [*DOCUMENTS.values(), *(ast.get_docstring(ast.parse(script)) or "" for script in scripts)]
    text = re.sub(r"\\\n\s*", " ", "\n".join(shown))
    commands = re.findall(r"python -m tests\.benchmarks\.(\w+)([^\n`]*)", text)
    assert commands
    for script, words in commands:
        source = (ROOT / "tests/benchmarks" / f"{script}.py").read_text()
        flags = re.findall(r"--([a-z-]+)", words)
        assert not [f for f in flags if f'"--{f}"' not in source and f"{f.replace('-', '_')}:" not in source], script


@pytest.mark.slow
def test_examples_of_the_library_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in python_blocks("fss/README.md"):
        exec(block, names)
    assert (tmp_path / "model").exists()


def test_imports_of_the_examples_exist() -> None:
    for name in ("README.md", "fss/README.md"):
        blocks = python_blocks(name)
        assert blocks
        for block in blocks:
            tree = ast.parse(block)
            imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(imports, []), name, "exec"), {})


def test_five_lines_of_python_use_what_the_predictor_offers() -> None:
    import fss
    from fss.inference.examples import Examples
    from fss.inference.prediction import Prediction
    from fss.inference.predictor import Predictor

    (block,) = python_blocks("README.md")
    assert {"load_segmenter", "examples", "predict", "mask", "probability", "confidence"} <= set(
        re.findall(r"\.(\w+)", block)
    )
    assert callable(fss.load_segmenter) and callable(Predictor.examples) and callable(Examples.predict)
    names = {field.name for field in dataclasses.fields(Prediction)}
    assert names == {"mask", "probability", "confidence", "presence", "found", "passes"}


def allow(monkeypatch: pytest.MonkeyPatch, setting: str, name: str) -> None:
    """Let a setting of a segmenter take one more name, as the guide tells a contributor to do."""
    from fss.core.config import settings
    from fss.models import SegmenterConfig

    hint = typing.get_type_hints(SegmenterConfig)[setting]
    body = {
        "__annotations__": {setting: Literal[*typing.get_args(hint), name]},
        setting: getattr(SegmenterConfig, setting),
    }
    wider = settings(type("SegmenterConfig", (SegmenterConfig,), body))
    for module in ("segmenter", "checkpoint"):
        monkeypatch.setattr(f"fss.models.{module}.SegmenterConfig", wider)


def test_the_learner_of_the_guide_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fss.models import registry
    from tests.helpers.segmenter_contract import check_contract

    learner, check, _ = python_blocks("CONTRIBUTING.md")
    names: dict[str, Any] = {"check_contract": check_contract, "tmp_path": tmp_path}
    exec(learner, names)
    monkeypatch.setitem(registry.LEARNERS, "prototype", names["Prototype"])
    allow(monkeypatch, "learner", "prototype")
    exec(check, names)


@pytest.mark.slow
def test_the_masking_strategy_of_the_guide_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fss.models import masking
    from tests.helpers.segmenter_contract import check_contract

    names: dict[str, Any] = {}
    exec(python_blocks("CONTRIBUTING.md")[2], names)
    monkeypatch.setitem(masking.MASKINGS, "soft", names["soft"])
    allow(monkeypatch, "masking", "soft")
    check_contract(tmp_path, learner="masksplit", masking="soft", backbone="timm:test_resnet.r160_in1k")


def test_names_of_the_guide_are_those_of_the_code() -> None:
    from fss.collection import sources
    from fss.collection.config import SourceConfig
    from fss.models import SegmenterConfig
    from fss.saliency.classical.cues import WEIGHTS

    assert {"learner", "masking"} <= {field.name for field in dataclasses.fields(SegmenterConfig)}
    assert "kind" in {field.name for field in dataclasses.fields(SourceConfig)}
    assert all(hasattr(module, "list_items") and hasattr(module, "read_item") for module in sources._SOURCES.values())
    assert len(WEIGHTS) == 5
