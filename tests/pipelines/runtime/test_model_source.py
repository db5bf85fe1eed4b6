"""Models that jobs load: a model of painted shapes warns when its pictures are others."""

from pathlib import Path
from typing import Any

import pytest

from fss.collection import Collection
from fss.models import create_segmenter, save_checkpoint
from pipelines.runtime.model_source import ModelSource, inspect_model, model_source


def model(folder: Path, **extra: Any) -> ModelSource:
    segmenter = create_segmenter(backbone="timm:test_resnet.r160_in1k", image_size=80, width=32)
    return model_source(str(save_checkpoint(segmenter, folder, extra=extra)))


def test_jobs_warn_only_where_the_pictures_are_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources: dict[str, Any] = {"painted": {"source": {"kind": "sample"}}, "folder": {"source": {"kind": "folder"}}}
    sources["old"] = "somewhere"
    collections = {
        name: Collection.create(str(tmp_path / name), name=name, source=source) for name, source in sources.items()
    }
    assert [collection.painted for collection in collections.values()] == [True, False, False]
    source = model(tmp_path / "model", training_data={"painted": True, "images": 372})
    for name, warned in (("painted", False), ("folder", True), ("old", True)):
        inspect_model(source, collections[name])
        text = capsys.readouterr().err
        assert ("372 painted pictures" in text) == (f"--photographs {collections[name].uri}" in text) == warned
    inspect_model(model(tmp_path / "without a record"), collections["folder"])
    assert not capsys.readouterr().err
