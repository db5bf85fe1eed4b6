"""``--overwrite`` of jobs that write into a collection: nobody else writes it from the deletion to the end."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fss.collection import Collection, ingest_local
from fss.collection.sources import SourceConfig
from fss.core.lease import LOCK
from pipelines import ingest, pseudomask, relabel
from pipelines.masks.config import IngestConfig, PseudomaskJobConfig
from pipelines.relabeling.config import RelabelJobConfig


def overwrite_collection(folder: str, patch: pytest.MonkeyPatch) -> None:
    ingest.run(IngestConfig(collection=folder, source=SourceConfig(kind="sample", count=3), overwrite=True))


def overwrite_masks(folder: str, patch: pytest.MonkeyPatch) -> None:
    pseudomask.run(PseudomaskJobConfig(collection=folder, output_mask_set="again", overwrite=True))


def overwrite_round(folder: str, patch: pytest.MonkeyPatch) -> None:
    data = SimpleNamespace(
        collection=Collection.open(folder), parts=[], identity={"model": "0"}, truth=None, models=[], masks_before=None
    )
    patch.setattr("pipelines.relabeling.data.RelabelData.open", lambda config: data)
    patch.setattr(relabel, "resolve", lambda config: config)
    patch.setattr(
        relabel,
        "_create_mask_set",
        lambda config, data: data.collection.create_mask_set("again", config_hash="0" * 16, provenance={}),
    )
    relabel.run(RelabelJobConfig(collection=folder, model="m", output_mask_set="again", overwrite=True))


@pytest.mark.parametrize(
    ("module", "run", "locked"),
    [
        (ingest, overwrite_collection, LOCK),
        (pseudomask, overwrite_masks, f"metadata/again/{LOCK}"),
        (relabel, overwrite_round, f"metadata/again/{LOCK}"),
    ],
)
def test_the_output_is_held_from_the_deletion_to_the_end(
    module: Any,
    run: Callable[[str, pytest.MonkeyPatch], None],
    locked: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "c"
    ingest_local(SourceConfig(kind="sample", count=3), str(folder))
    held = []

    def start(*_: object, **__: object) -> None:
        held.append((folder / locked).is_file())
        raise RuntimeError("started")

    monkeypatch.setattr(module, "Job", start)
    with pytest.raises(RuntimeError, match="started"):
        run(str(folder), monkeypatch)
    assert held == [True]
    assert not (folder / locked).exists(), "the lock ends with the job"
