"""Models of painted shapes warn when they are used on photographs; others say nothing."""

import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fss.cli import main
from fss.inference.painted import PaintedModelWarning
from fss.inference.predictor import load_segmenter
from fss.models import create_segmenter, save_checkpoint

PAINTED = {"training_data": {"painted": True, "images": 372}}
OTHERS: list[dict[str, Any]] = [{}, {"training_data": {"painted": False, "images": 9}}, {"training_data": "?"}]
SENTENCE = "was trained on 372 painted pictures, not on photographs, so expect little of its masks of photographs; "


def model(folder: Path, extra: dict[str, Any]) -> str:
    segmenter = create_segmenter(backbone="timm:test_resnet.r160_in1k", image_size=80, width=32)
    return str(save_checkpoint(segmenter, folder, extra=extra))


def test_loading_warns_of_a_model_of_painted_shapes(tmp_path: Path) -> None:
    with pytest.warns(PaintedModelWarning, match=f"{SENTENCE}train one with python -m pipelines.masksplit --photo"):
        predictor = load_segmenter(model(tmp_path / "painted", PAINTED))
    assert len(predictor.notes) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, extra in enumerate(OTHERS):
            assert load_segmenter(model(tmp_path / str(number), extra)).notes == ()


def test_the_command_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    painted = model(tmp_path / "painted", PAINTED)
    Image.new("RGB", (90, 90)).save(tmp_path / "query.jpg")
    words = ["predict", "--model", painted, "--query", str(tmp_path / "query.jpg"), "--support", "missing.jpg:1,1,9,9"]
    with pytest.raises(SystemExit), warnings.catch_warnings():
        warnings.simplefilter("error")
        main.main([*words, "--output", str(tmp_path / "out")])
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "painted" in line)
    assert line.startswith(f"fss predict: {painted} {SENTENCE}")
