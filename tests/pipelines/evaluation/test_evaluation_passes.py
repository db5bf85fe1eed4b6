"""Every source's exact layout through ingest, plan and evaluation, as the commands do it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fss.collection import Collection, ImageReader
from fss.collection.sources import SourceConfig
from fss.episodes.episode_plan import EpisodePlan
from fss.evaluation.baselines import AllForeground
from fss.evaluation.evaluator import evaluate
from fss.images.resize import mask_canvas
from fss.models import create_segmenter, save_checkpoint
from fss.synthetic.picture import render_sample_image
from pipelines.evaluate import run as run_evaluate
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.ingest import run as run_ingest
from pipelines.masks.config import IngestConfig
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.result import JobResult
from tests.helpers.dataset_layouts import (
    ringed,
    write_bytes,
    write_cityscapes,
    write_coco,
    write_fss1000,
    write_sbd,
    write_voc,
)

SIZE, EPISODES = 64, 16
pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    segmenter = create_segmenter(backbone="timm:test_resnet.r160_in1k", image_size=SIZE, width=32, frozen=True)
    return str(save_checkpoint(segmenter, tmp_path_factory.mktemp("model")))


class Bench:
    """Runs both jobs in a folder."""

    def __init__(self, home: Path, checkpoint: str, tracking: TrackingConfig):
        self.home, self._checkpoint, self._tracking = home, checkpoint, tracking

    def ingest(self, kind: str, subset: str = "", tree: str = "data") -> Collection:
        uri = str(self.home / f"collection-{tree}")
        source = SourceConfig(kind=kind, path=str(self.home / tree), subset=subset)  # type: ignore[arg-type]
        summary = run_ingest(IngestConfig(collection=uri, source=source, workers=1, tracking=self._tracking))
        assert summary.counts["masks"] == summary.counts["usable"] == summary.counts["photographs"] > 0
        assert re.search("standard download|the download has|FSS-1000 has", str(summary.metrics["about the source"]))
        return Collection.open(uri)

    def evaluate(self, collection: Collection, **settings: Any) -> tuple[JobResult, EpisodePlan]:
        output = f"{collection.uri}-{'-'.join(map(str, settings.values())).replace('/', '_')}"
        config = {"episodes": EPISODES, "shots": (1,), "baselines": False, "visualizations": 0, "workers": 0} | settings
        summary = run_evaluate(
            EvaluateJobConfig(
                model=self._checkpoint,
                collection=collection.uri,
                output=output,
                tracking=self._tracking,
                **config,
            )
        )
        assert 0 <= summary.metrics["1-shot/model/mIoU"] <= 1
        plan = EpisodePlan.load(f"{output}/plan-1shot.parquet")
        assert plan.hash == summary.inputs["1-shot plan"]
        assert summary.counts["1-shot backbone passes"] == len(plan.image_ids()), "each picture once"
        return summary, plan


@pytest.fixture
def bench(tmp_path: Path, checkpoint: str, tracking: TrackingConfig) -> Bench:
    return Bench(tmp_path, checkpoint, tracking)


def test_voc_with_published_lists_and_coco_models_on_it(bench: Bench) -> None:
    names = write_voc(bench.home / "data" / "VOCdevkit" / "VOC2012", count=60, val=range(40))
    collection = bench.ingest("voc", "val")
    shown = {c: [n for n in range(40) if c in render_sample_image(n, 0, "labelled").classes] for c in range(1, 6)}
    lines = [f"{names[n]}__{c:02d}\n" for c, found in shown.items() for n in found[::-1]]
    write_bytes(bench.home / "splits" / "pascal" / "val" / "fold0.txt", "".join(lines).encode())
    summary, plan = bench.evaluate(
        collection, benchmark="pascal", fold=0, protocol="hsnet", split_folder=str(bench.home / "splits")
    )
    assert summary.inputs["protocol"] == plan.protocol == "hsnet-given"
    assert [episode.class_id for episode in plan] == [int(line.split("__")[1]) for line in lines[:EPISODES]]
    summary, plan = bench.evaluate(collection, benchmark="coco-to-pascal", fold=1, protocol="ifsl")
    assert set(plan.classes) <= {2, 6, 13, 18}
    assert plan.protocol == "ifsl-derived"


def test_void_pixels_drop_out_of_every_figure(bench: Bench) -> None:
    write_voc(bench.home / "data", count=30)
    collection = bench.ingest("voc")
    _, plan = bench.evaluate(collection, benchmark="pascal", fold=0, protocol="hsnet")
    found = evaluate([AllForeground()], plan, ImageReader(collection, collection.mask_set("truth")), size=SIZE)
    number_of = {}
    for part in collection.part_names():
        for row in collection.read_part(part, ["image_id", "uri"]).to_pylist():
            number_of[row["image_id"]] = int(Path(row["uri"]).stem.split("_")[1])
    pixels: dict[int, list[tuple[int, int]]] = {}
    for episode in plan:
        truth = mask_canvas(ringed(render_sample_image(number_of[episode.query_id], 0, "labelled").mask), SIZE)
        pair = int((truth == episode.class_id).sum()), int((truth != 255).sum())
        pixels.setdefault(episode.class_id, []).append(pair)
    by_hand = [np.sum(pairs, 0)[0] / np.sum(pairs, 0)[1] for pairs in pixels.values()]
    assert found.metrics("all foreground").miou.value == pytest.approx(float(np.mean(by_hand)))


def test_voc_with_sbds_own_masks(bench: Bench) -> None:
    names = write_voc(bench.home / "data" / "VOCdevkit" / "VOC2012", count=90, val=range(10), augmented=False)
    for name in names[50:]:
        (bench.home / "data/VOCdevkit/VOC2012/SegmentationClass" / f"{name}.png").unlink()
    write_sbd(bench.home / "data", names[10:])
    collection = bench.ingest("voc", "trainaug")
    assert sum(len(ids) for ids in collection.image_ids().values()) == 80
    _, plan = bench.evaluate(collection, benchmark="pascal", fold=1)
    assert set(plan.classes) <= {6, 7, 8, 9, 10}


@pytest.mark.slow
def test_coco_from_json_and_from_pngs_is_the_same_data(bench: Bench) -> None:
    found = []
    for tree, rendered in (("json", False), ("png", True)):
        write_coco(bench.home / tree, "val2014", count=260, rendered=rendered, spread=True)
        collection = bench.ingest("coco", "val2014", tree)
        summary, plan = bench.evaluate(collection, benchmark="coco", fold=1, protocol="hsnet")
        assert set(plan.classes) <= set(range(2, 81, 4))
        found.append((summary.metrics, plan.episodes))
    assert found[0] == found[1]
    _, plan = bench.evaluate(collection, benchmark="coco", fold=3, order="consecutive")
    assert set(plan.classes) <= set(range(61, 81))


def test_fss1000_with_published_lists(bench: Bench) -> None:
    write_fss1000(bench.home / "data", [f"thing{number}" for number in range(5)])
    for split, members in {"trn": [0], "val": [1], "test": [4, 2]}.items():
        words = "".join(f"thing{member}\n" for member in members)
        write_bytes(bench.home / "splits" / "fss" / f"{split}.txt", words.encode())
    collection = bench.ingest("fss1000")
    summary, plan = bench.evaluate(
        collection, benchmark="fss", protocol="hsnet", split_folder=str(bench.home / "splits"), episodes=None
    )
    assert {collection.classes[c] for c in plan.classes} == {"thing2", "thing4"}
    assert summary.counts["episodes"] == 20


@pytest.mark.parametrize("train_ids", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_cityscapes_is_evaluated_class_by_class(bench: Bench, train_ids: bool) -> None:
    write_cityscapes(bench.home / "data", "val", "lindau", count=80, train_ids=train_ids)
    collection = bench.ingest("cityscapes", "val")
    _, plan = bench.evaluate(collection)
    assert set(plan.classes) <= set(range(19))
    assert len(plan.classes) > 10
