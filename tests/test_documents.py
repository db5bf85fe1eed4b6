"""What README and CONTRIBUTING say is there is there, and their code runs."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING = ((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))


def tree() -> list[Path]:
    """The paths in README's tree: names before the gloss, below the folder that was named last with less indent."""
    lines = README.split("## The house")[1].split("\n\n")[1].splitlines()
    found: list[Path] = []
    folder = Path()
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if indent not in (4, 6):
            continue  # the gloss goes on
        names = re.match(r"(\S+)((?: \S+\.py)*)", line.strip())
        assert names, line
        listed = [names[1], *names[2].split()]
        folder = folder if indent == 6 else Path(listed[0])
        found += [folder / name if indent == 6 else Path(name) for name in listed]
        found += [folder / name for name in re.findall(r"[a-z_]+\.py", line.strip()[len(names[0]) :]) if indent == 6]
    return found


def test_the_tree_has_paths() -> None:
    assert len(tree()) > 15
    assert {Path("fss"), Path("pipelines"), Path("infra"), Path("tests")} <= set(tree())


@pytest.mark.parametrize("path", tree(), ids=str)
def test_every_path_of_the_tree_is_there(path: Path) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_every_path_that_is_named_is_there(text: str) -> None:
    named = set(re.findall(r"(?:fss|pipelines|tests|infra|notebooks)/[\w/.-]+\.(?:py|csv|ipynb|md|json)", text))
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]
    modules = set(re.findall(r"(?:python -m|`)\s?(pipelines\.[a-z_]+)", text))
    assert not [name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").exists()]


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL)


def test_the_learner_of_the_guide_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fss.models import registry
    from tests.helpers.segmenter_contract import check_contract

    learner, check, _ = blocks()
    known: dict[str, Any] = {"check_contract": check_contract, "tmp_path": tmp_path}
    exec(learner, known)
    monkeypatch.setitem(registry.LEARNERS, "prototype", known["Prototype"])
    exec(check, known)


@pytest.mark.slow
def test_the_masking_strategy_of_the_guide_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fss.models import masking
    from tests.helpers.segmenter_contract import check_contract

    known: dict[str, Any] = {}
    exec(blocks()[2], known)
    monkeypatch.setitem(masking.MASKINGS, "soft", known["soft"])
    check_contract(tmp_path, learner="masksplit", masking="soft", backbone="timm:test_resnet.r160_in1k")


def test_names_of_the_guide_are_those_of_the_code() -> None:
    from fss.collection import sources
    from fss.collection.sources import SourceConfig
    from fss.models import SegmenterConfig
    from fss.saliency.classical.cues import WEIGHTS

    assert {"learner", "masking"} <= {field.name for field in dataclasses.fields(SegmenterConfig)}
    assert "kind" in {field.name for field in dataclasses.fields(SourceConfig)}
    assert all(hasattr(module, "list_items") and hasattr(module, "read_item") for module in sources._SOURCES.values())
    assert len(WEIGHTS) == 5
