"""The three-stage job on the sample collection with real Ray: what it leaves, twice, killed and resumed, mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fss.collection import Collection
from fss.collection.class_map import ClassTable
from fss.collection.mask_set import MaskSet
from fss.collection.schema import image_table, make_image_id, mask_table
from fss.core.config import merged, override, save
from fss.images.mask_codec import decode_mask, mask_row
from fss.models.semantic.checkpoint import load_semantic
from fss.models.semantic.config import SemanticConfig
from fss.models.semantic.network import build_semantic
from fss.training.semi_supervised.config import (
    LabelledConfig,
    SemanticStreamConfig,
    StageConfig,
    StrongConfig,
    ThreeStageConfig,
    WeakConfig,
)
from fss.training.semi_supervised.reader import SemanticReader
from pipelines.runtime.command_line import read_config
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.result import JobResult
from pipelines.self_training.config import PRESETS, SelfTrainConfig, with_seed, work_hash
from pipelines.selftrain import run
from tests.benchmarks.three_stage_arms import BALANCE, UNMIXED, training
from tests.helpers.discs import png

PICTURES, LABELLED, PART_SIZE, STEPS = 16, 4, 4, 4
Paint = Callable[..., str]


def settings(collection: str, output: Path, tracking: TrackingConfig) -> SelfTrainConfig:
    stage = StageConfig(steps=STEPS, labelled=2, pool=2)
    return SelfTrainConfig(
        collection=collection,
        output=str(output),
        name="toy",
        labelled=LabelledConfig(count=LABELLED),
        network=SemanticConfig(network="lraspp", backbone="mobilenet_v2", stride=16),
        stream=SemanticStreamConfig(weak=WeakConfig(crop=(64, 64), scales=(0.5, 0.7)), shrink=2, decode_threads=1),
        training=ThreeStageConfig(
            first=StageConfig(steps=3, labelled=2, pool=0),
            second=stage,
            third=stage,
            learning_rate=1e-3,
            backbone_learning_rate=1e-4,
            ema=((0, 0.5),),
        ),
        checkpoint_every=2,
        log_every=1,
        data_workers=1,
        tracking=tracking,
    )


@pytest.fixture(scope="module")
def config(paint: Paint, tmp_path_factory: pytest.TempPathFactory, tracking: TrackingConfig) -> SelfTrainConfig:
    home = tmp_path_factory.mktemp("selftrain")
    collection = paint(home / "c", count=PICTURES, labelled=True, part_size=PART_SIZE)
    val = paint(home / "val", count=4, labelled=True)
    made = settings(collection, home / "runs", tracking)
    return replace(made, val_collection=val, stable_share=0.5)


@pytest.fixture(scope="module")
def done(ray_local: None, config: SelfTrainConfig) -> JobResult:
    return run(config)


def mask_bytes(masks: MaskSet) -> list[bytes]:
    return [
        mask for part in sorted(masks.finished_parts()) for mask in masks.read_part(part).column("mask").to_pylist()
    ]


def test_leaves_masks_and_models_of_every_stage(done: JobResult, config: SelfTrainConfig) -> None:
    collection = Collection.open(config.collection)
    assert done.counts == {"labelled": LABELLED, "pool": PICTURES, "unusable": 0, "classes": 17}
    for stage in (1, 2, 3):
        masks = collection.mask_set(f"stage-{stage}")
        assert len(mask_bytes(masks)) == PICTURES
        assert masks.provenance["model"] == done.outputs[f"stage {stage}: model"]
        metrics = [done.metrics[f"stage {stage}: {kind} val_miou"] for kind in ("last", "best")]
        assert 0 <= metrics[0] <= metrics[1] < 1
    last = {stage: done.metrics[f"stage {stage}: last val_miou"] for stage in (1, 2, 3)}
    kept = 3 if last[3] >= last[1] else max(last, key=lambda stage: last[stage])
    assert done.outputs["model"].endswith(f"stage-{kept}/model")
    assert done.outputs["mask set"].endswith(f"masks/stage-{kept}")
    assert f"The model is that of stage {kept}." in done.verdicts["stages"]["line"]
    stable = collection.mask_set("stage-1").read_acceptance("stable")
    assert len(stable.accepted) == PICTURES // 2 and stable.rule["scores"] == ["checkpoint"]


def test_masks_come_from_the_last_teachers_main_head(done: JobResult, config: SelfTrainConfig) -> None:
    collection = Collection.open(config.collection)
    table = ClassTable(collection.classes)
    reader = SemanticReader(collection, table, shrink=2)
    for stage, auxiliary in ((1, "none"), (2, "deep"), (3, "shallow")):
        network, described = load_semantic(done.outputs[f"stage {stage}: model"])
        assert network.auxiliary == auxiliary
        assert described["training"]["step"] == config.training.stage(stage).steps, "the last weights, not the best"
        checkpoints = Path(config.output, "ray", f"toy-stage-{stage}").glob("checkpoint_*/loop.pt")
        state = torch.load(max(checkpoints), weights_only=True)
        kept = state["ema"]["average"] if state["ema"] else state["model"]
        own = network.state_dict()
        assert all(torch.equal(own[name], value) for name, value in kept.items() if name in own)
        row = collection.mask_set(f"stage-{stage}").read_part("part-00000").to_pylist()[0]
        pixels = torch.from_numpy(reader.picture(0, 0).transpose(2, 0, 1).copy())[None]
        labels = table.to_labels(decode_mask(row["mask"]), row["classes"])
        said = network.predict(pixels)[0].numpy()
        assert (labels[1::2, 1::2][: said.shape[0], : said.shape[1]] == said[: labels.shape[0] // 2]).mean() > 0.98


def test_every_stage_starts_from_the_initial_weights(done: JobResult, config: SelfTrainConfig) -> None:
    initial = build_semantic(config.network, classes=17).state_dict()
    for stage in (1, 2, 3):
        state = load_semantic(done.outputs[f"stage {stage}: model"])[0].state_dict()
        steps = config.training.stage(stage).steps
        moved = max(float((state[name] - value).abs().max()) for name, value in initial.items() if "conv" in name)
        assert 0 < moved <= 1.05e-4 * steps, "Adam moves a weight of the backbone by its rate at most in a step"


def test_each_stage_is_a_child_run_with_its_curves(done: JobResult, tracking: TrackingConfig) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking.uri)
    parent = client.get_run(str(done.run_id))
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{done.run_id}'", order_by=["attributes.start_time"]
    )
    assert [child.info.run_name for child in children] == ["stage-1", "stage-2", "stage-3"]
    for child, parts in zip(children, ({"supervised"}, *2 * ({"supervised", "consistency", "pseudo"},)), strict=True):
        assert {
            name.removeprefix("train/loss.") for name in child.data.metrics if name.startswith("train/loss.")
        } == parts
        steps = [point.step for point in client.get_metric_history(child.info.run_id, "train/loss")]
        assert sorted(steps) == list(range(1, len(steps) + 1)) and child.info.status == "FINISHED"


def test_a_second_run_does_no_work_and_other_settings_are_refused(done: JobResult, config: SelfTrainConfig) -> None:
    again = run(config)
    assert not again.worked and again.metrics == done.metrics
    with pytest.raises(ValueError, match=r"network.seed was 0, is 1.*--overwrite"):
        run(replace(config, network=replace(config.network, seed=1)))


def test_mistakes_are_told_before_any_work(config: SelfTrainConfig) -> None:
    small = replace(config.training, third=StageConfig(steps=1, labelled=5, pool=1))
    few = StageConfig(steps=1, labelled=1, pool=1)
    unstable = replace(config.training, second=StageConfig(steps=1, labelled=2, pool=5))
    narrow = replace(config.training, first=StageConfig(steps=1, labelled=4, pool=0), second=few)
    for change, words in (
        ({"training": small}, "stage 3 takes 5 labelled pictures, but there are 4"),
        (
            {"training": unstable, "stable_share": 0.1},
            r"stage 2 takes 5 pool pictures, but there are 4; .* With stable_share 0\.1 the pool may have so few",
        ),
        ({"network": SemanticConfig(backbone_weights="/nowhere.pth")}, "no weights file"),
        ({"network": SemanticConfig(backbone="vgg16")}, "must be a ResNet or mobilenet_v2"),
        ({"scale": replace(config.scale, workers=3)}, "the 2 pictures in a step of stage 1, 1 or more each; use"),
        (
            {"scale": replace(config.scale, workers=3), "dry_run": True},
            "at most 2 --workers, or raise --training.first",
        ),
        (
            {"scale": replace(config.scale, workers=3), "training": narrow},
            "the 2 pictures in a step of stage 2, 1 or more each; use at most 2 --workers, or raise "
            "--training.second.labelled or --training.second.pool",
        ),
        (
            {"scale": replace(config.scale, workers=2), "network": SemanticConfig(frozen_norm="none")},
            "stage 1, 2 or more each; use at most 1 --workers",
        ),
        ({"val_collection": "/nowhere"}, "no collection at /nowhere"),
    ):
        with pytest.raises(ValueError, match=words):
            run(replace(config, name="mistake", **change))  # type: ignore[arg-type]
    one = replace(config.training, second=StageConfig(steps=1, labelled=1, pool=2))
    run(replace(config, name="mistake", training=one, scale=replace(config.scale, workers=2), dry_run=True))
    with pytest.raises(ValueError, match="but 0 are frozen; set --frozen-stages 3"):
        replace(config, stream=replace(config.stream, cache_features=2))
    with pytest.raises(ValueError, match="give --output-mask-set another prefix"):
        replace(config, mask_set="stage-1")
    assert not Path(config.output, "mistake").exists()


def one_picture(folder: Path, classes: dict[int, str]) -> str:
    """Write a collection of a picture that shows the last of its classes alone; returns its URI."""
    collection = Collection.create(str(folder), name="one", source="test", classes=classes)
    picture = png(np.zeros((8, 8, 3), np.uint8))
    name, size = make_image_id(picture, "a.png"), {"height": 8, "width": 8}
    row = {"image_id": name, "uri": "a.png", "image": picture, "format": "png", "error": None} | size
    collection.write_part("part-00000", image_table([row]))
    masks = collection.create_mask_set("truth", config_hash="a" * 16, provenance={"method": "test"})
    masks.write_part("part-00000", mask_table([mask_row(name, np.ones((8, 8), np.uint8), [max(classes)])]))
    return collection.uri


def test_validation_pictures_of_other_classes_are_refused_before_the_training(
    config: SelfTrainConfig, tmp_path: Path
) -> None:
    def val(classes: dict[int, str]) -> SelfTrainConfig:
        return replace(config, name="mistake", val_collection=one_picture(tmp_path / str(classes), classes))

    names = Collection.open(config.collection).classes
    with pytest.raises(ValueError, match=rf"class 1 is '{names[1]}' in .*but 'tram' in .*--source\.classes FILE"):
        run(val({1: "tram"}))
    with pytest.raises(ValueError, match=r"have 1 classes that .* lacks: 99 \(tram\); ingest both"):
        run(val({99: "tram"}))


def test_one_class_without_background_is_refused(config: SelfTrainConfig, tmp_path: Path) -> None:
    uri = one_picture(tmp_path / "one", {0: "road"})
    with pytest.raises(ValueError, match=r"has one class, \{0: 'road'\}, and no background .* another id than 0"):
        run(
            replace(
                config,
                name="mistake",
                collection=uri,
                val_collection=None,
                labelled=LabelledConfig(count=1),
                dry_run=True,
            )
        )


def test_presets_are_the_released_ones() -> None:
    read = {
        name: read_config(
            SelfTrainConfig, ["--preset", name, "--collection", "c", "--output", "o"], job="selftrain", presets=PRESETS
        )
        for name in PRESETS
    }
    city, pascal = read["cityscapes"], read["pascal"]
    assert [city.training.stage(n).steps for n in (1, 2, 3)] == [20_000, 60_000, 60_000]
    assert [pascal.training.stage(n).steps for n in (1, 2, 3)] == [10_000, 60_000, 60_000]
    assert (city.training.first.labelled, pascal.training.first.labelled) == (4, 10)
    assert (city.training.second.pool, pascal.training.third.pool, pascal.training.third.labelled) == (4, 9, 1)
    assert city.training.loss_weights(0) == {"supervised": 0.5, "consistency": 0.25, "pseudo": 0.25}
    assert pascal.training.loss_weights(0) == {"supervised": 1.0, "consistency": 0.25, "pseudo": 0.25}
    assert (city.stream.weak.crop, city.stream.shrink, city.labelled.count) == ((256, 512), 2, 100)
    assert (pascal.stream.weak.crop, pascal.stream.weak.scales, pascal.labelled.count) == ((321, 321), (0.5, 1.5), 212)
    for preset in (city, pascal):
        assert (preset.training.learning_rate, preset.training.backbone_learning_rate) == (3e-5, 9e-6)
        assert preset.training.confidence is None and preset.stable_share is None
        assert preset.network.frozen_norm == "all" and preset.network.frozen_stages == 0
        training, strong = preset.training, preset.stream.strong
        assert (training.start, training.target, training.consistency_on) == ("backbone-weights", "hard", "all")
        assert (training.class_balance, training.mask_tta, training.ema_warm_up) == (0, "none", False)
        assert (strong.operations, strong.cutouts, strong.mix, strong.jitter) == (3, 3, "none", 0)
        assert not preset.network.all_dilations and preset.training.decay == "constant"


def test_the_preset_for_a_folder_has_the_losses_weights_and_tones_of_the_benchmark() -> None:
    preset = PRESETS["folder"]()
    assert override(preset, merged(UNMIXED, training(pseudo_weight=None, class_balance=BALANCE))) == preset
    assert preset.training.loss_weights(0) == {"supervised": 1.0, "consistency": 1.0, "pseudo": 0.25}


def test_the_plan_says_that_masks_teach_no_frozen_layer() -> None:
    preset = PRESETS["folder"]()
    frozen = replace(preset, network=replace(preset.network, frozen_stages=3))
    unused = replace(frozen, training=replace(preset.training, pseudo_weight=0.0))
    assert preset.remarks() == unused.remarks() == {}
    assert "teach the second head of stage 2 alone" in frozen.remarks()["masks of stage 1"]


def test_trainings_and_masks_of_the_first_version_stay_valid() -> None:
    data = {"collection": "x", "weights": "pretrained"}
    released = (("cityscapes", "075d30405a956738"), ("pascal", "abb2ff20dccc96ea"))
    for name, expected in released:
        preset = with_seed(PRESETS[name]())
        plain = replace(preset.stream, strong=StrongConfig(operations=0, cutouts=0))
        old = replace(preset, stream=plain, training=replace(preset.training, backbone_learning_rate=3e-6))
        assert work_hash(old, data) == expected
        # Neither the corrected rate nor the corrected augmentation leaves a finished training valid.
        others = (
            {"stream": preset.stream},
            {"training": preset.training},
            {"precision": "tf32"},
            {"training": replace(old.training, class_balance=1.0)},
            {"network": replace(old.network, frozen_norm="backbone")},
            {"stream": replace(plain, cache_features=2), "network": replace(old.network, frozen_stages=3)},
        )
        assert expected not in {work_hash(replace(old, **change), data) for change in others}  # type: ignore[arg-type]
        assert work_hash(replace(old, stream=replace(plain, cache_gb=9.0)), data) == expected


@pytest.mark.slow
def test_killed_at_any_point_and_resumed_the_masks_are_the_same(
    ray_local: None, paint: Paint, tracking: TrackingConfig, tmp_path: Path
) -> None:
    whole, stopped = (
        settings(
            paint(tmp_path / name, count=PICTURES, labelled=True, part_size=1), tmp_path / f"{name}-runs", tracking
        )
        for name in ("whole", "stopped")
    )
    run(whole)
    save(stopped, tmp_path / "config.json")
    code = (
        "import sys; from fss.core.config import load; from pipelines.self_training.config import SelfTrainConfig; "
        "from pipelines.selftrain import run; run(load(SelfTrainConfig, sys.argv[1]))"
    )
    masks, checkpoints = Path(stopped.collection, "masks"), Path(stopped.output, "ray", "toy-stage-2")
    for reached in (
        lambda: len(list((masks / "stage-1").glob("part-*.parquet"))) >= 3,  # in the midst of masks
        lambda: bool(list(checkpoints.glob("checkpoint_*/progress.json"))),  # in the midst of a training
    ):
        job = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "config.json")],
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 300
        while not reached():
            assert job.poll() is None, "the job ended before it could be killed"
            assert time.monotonic() < deadline, "it did not get so far in five minutes"
            time.sleep(0.02)
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    assert not list((masks / "stage-2").glob("part-*.parquet")), "it was killed too late"
    run(stopped)
    for stage in (1, 2, 3):
        sets = [Collection.open(each.collection).mask_set(f"stage-{stage}") for each in (whole, stopped)]
        assert mask_bytes(sets[0]) == mask_bytes(sets[1])
    summary = json.loads(Path(stopped.output, "toy", "stage-1", "summary.json").read_text())
    assert summary["counts"]["parts kept"] >= 3
