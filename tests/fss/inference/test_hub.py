"""Models on the Hugging Face Hub, which a folder stands in for."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import HTTPError

import fss
from fss.cli import main
from fss.inference.hub import download_from_hub, parse_hub_uri, push_to_hub
from fss.models import create_segmenter, save_checkpoint


class Hub:
    """The Hub as a folder: <user>/<name>/<revision>."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.private = folder, True

    def path(self, repository: str, revision: str | None) -> Path:
        return self.folder / repository / (revision or "main")

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        if repository.startswith("other/"):
            raise PermissionError("403 Forbidden\nmore")
        self.private = private

    def create_branch(self, repository: str, *, branch: str, exist_ok: bool) -> None:
        self.path(repository, branch).mkdir(parents=True, exist_ok=exist_ok)

    def file_exists(self, repository: str, name: str, *, revision: str | None) -> bool:
        return (self.path(repository, revision) / name).exists()

    def upload_folder(self, *, repo_id: str, folder_path: str, revision: str | None, **patterns: Any) -> Any:
        target = self.path(repo_id, revision)
        target.mkdir(parents=True, exist_ok=True)
        for name in set(patterns["allow_patterns"]) - set(patterns["ignore_patterns"]):
            shutil.copyfile(Path(folder_path) / name, target / name)
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")

    def snapshot_download(
        self, repository: str, *, revision: str | None, local_dir: str, allow_patterns: list[str]
    ) -> None:
        source = self.path(repository, revision)
        if not source.is_dir():
            raise FileNotFoundError(f"404 {repository}")
        for file in source.iterdir():
            if file.name in allow_patterns:
                shutil.copyfile(file, Path(local_dir) / file.name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


@pytest.fixture
def model(tmp_path: Path) -> Path:
    segmenter = create_segmenter(backbone="timm:test_resnet.r160_in1k", image_size=64, width=32)
    extra = {
        "training": {"step": 40, "held_out_iou": {"raw": 0.25}},
        "training_data": {"painted": True, "images": 17},
        "data": {"collection": "75ea"},
    }
    folder = save_checkpoint(segmenter, tmp_path / "model", extra=extra)
    description = json.loads((folder / "segmenter.json").read_text())
    description["segmenter"]["backbone_weights"] = "/home/somebody/weights.pth"
    del description["checksum"]  # of the values before
    (folder / "segmenter.json").write_text(json.dumps(description))
    return folder


def test_a_pushed_model_loads_by_its_name_and_revision(
    hub: Hub, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(["push", str(model), "hf://me/birds"])
    assert end.value.code == 0 and hub.private
    assert "https://huggingface.co/me/birds/commit/1" in capsys.readouterr().out
    pushed = hub.path("me/birds", None)
    assert {file.name for file in pushed.iterdir()} == {"model.safetensors", "segmenter.json", "README.md"}
    assert "/home/somebody" not in (pushed / "segmenter.json").read_text() + (pushed / "README.md").read_text()
    assert (pushed / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    with pytest.warns(UserWarning, match="painted pictures"):
        predictor = fss.load_segmenter("hf://me/birds", device="cpu")
    assert predictor.segmenter.config.image_size == 64
    assert push_to_hub(model, "hf://me/birds@v2", private=False).endswith("/commit/1") and not hub.private
    (tmp_path / "v2").mkdir()
    assert (download_from_hub("hf://me/birds@v2", tmp_path / "v2") / "model.safetensors").is_file()


def test_the_card_says_what_the_run_says_and_keeps_edits(hub: Hub, model: Path) -> None:
    push_to_hub(model, "hf://me/birds")
    card = hub.path("me/birds", None) / "README.md"
    text = card.read_text()
    for words in (
        'load_segmenter("hf://me/birds")',
        "17 painted pictures",
        "held_out_iou.raw",
        "0.25",
        "| backbone ",
        "75ea",
    ):
        assert words in text
    assert text.startswith("---\nlibrary_name: fss") and "# license: fill in" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        *("## Data", "## Settings", "## Metrics", "## Limits", "## Licence")
    ]
    card.write_text("licence: mine")
    push_to_hub(model, "hf://me/birds")
    assert card.read_text() == "licence: mine"


@pytest.mark.parametrize("uri", ["hf://birds", "hf://me/birds/3", "hf://me/birds@", "https://huggingface.co/me/birds"])
def test_other_forms_of_names_are_told(uri: str) -> None:
    with pytest.raises(ValueError, match="write hf://USER/NAME or hf://USER/NAME@REVISION"):
        parse_hub_uri(uri)


def test_what_the_hub_refuses_is_told(hub: Hub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"hf://me/none cannot be downloaded: 404 me/none; check the name"):
        download_from_hub("hf://me/none", tmp_path)
    with pytest.raises(
        ValueError, match="hf://other/birds cannot be pushed: 403 Forbidden; log in with `hf auth login`"
    ):
        push_to_hub(model, "hf://other/birds")
    hub.path("me/pickle", None).mkdir(parents=True)
    (hub.path("me/pickle", None) / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is no model of fss: it must hold model.safetensors and segmenter.json"):
        download_from_hub("hf://me/pickle", tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"needs huggingface_hub, .*pip install 'fss-masks\[hub\]'"):
        download_from_hub("hf://me/birds", tmp_path)


def test_a_hub_that_is_away_is_told(hub: Hub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise HTTPError("no route to the Hub")  # of the HTTP client; it is no OSError

    for verb in ("snapshot_download", "create_repo"):
        monkeypatch.setattr(hub, verb, away)
        monkeypatch.setattr(huggingface_hub, verb, away, raising=False)
    with pytest.raises(ValueError, match="hf://me/birds cannot be downloaded: no route to the Hub; check the name"):
        download_from_hub("hf://me/birds", tmp_path)
    with pytest.raises(ValueError, match="hf://me/birds cannot be pushed: no route to the Hub; log in"):
        push_to_hub(model, "hf://me/birds")
