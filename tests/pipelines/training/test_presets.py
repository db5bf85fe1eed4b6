"""The presets of a training: published settings, the command line, and eight workers."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from fss.collection import ingest_local
from fss.collection.sources import SourceConfig
from fss.episodes.config import OFF, VAT_TONES, AugmentConfig
from fss.models import FewShotSegmenter, create_segmenter
from fss.training.few_shot.config import OptimizerConfig
from fss.training.few_shot.loop import TrainLoop
from pipelines import train
from pipelines.runtime.command_line import read_config
from pipelines.runtime.config import ScaleConfig, TrackingConfig
from pipelines.training.config import TrainJobConfig, check_workers, work_hash
from pipelines.training.data import TrainingData
from pipelines.training.presets import EPOCH, PRESETS
from tests.helpers.dataset_layouts import write_coco, write_fss1000, write_voc
from tests.helpers.processes import train_on_workers

TINY = "timm:test_resnet.r160_in1k"
WORKERS, STEPS = 8, 2


@pytest.mark.parametrize("name", sorted(name for name in PRESETS if not name.startswith("masksplit")))
def test_every_preset_can_be_changed_on_the_command_line(name: str) -> None:
    words = ["--preset", name, "--collection", "c", "--output", "o", "--masking", "hybrid"]
    found = read_config(TrainJobConfig, words, job="train", presets=PRESETS)
    plain = replace(PRESETS[name](), collection="c", output="o")
    assert found == replace(plain, segmenter=replace(plain.segmenter, masking="hybrid"))
    assert (found.episodes, found.mask_set) == ("classes", "truth")
    assert found.augment == (VAT_TONES if name.startswith("vat") else OFF)
    if name != "classes":
        learner, data = name.split("-")
        assert (found.segmenter.learner, found.classes.benchmark) == (learner, data)
        assert found.classes.draw == ("balanced" if data == "coco" else "entries")
        check_workers(replace(found, scale=ScaleConfig(workers=8)))
        assert found.checkpoint_every * found.stream.batch_size == pytest.approx(EPOCH[data], rel=0.01)


def test_published_settings() -> None:
    found = {name: PRESETS[name]() for name in ("hsnet-coco", "vat-coco", "vat-fss")}
    assert [c.stream.batch_size for c in found.values()] == [40, 16, 16]
    assert [c.optimizer.learning_rate for c in found.values()] == [1e-3, 5e-4, 5e-4]
    assert [c.segmenter.image_size for c in found.values()] == [400, 417, 473]
    assert [c.classes.val for c in found.values()] == [("test",), ("test",), ("val",)]


@pytest.mark.parametrize("data", ["pascal", "coco"])
def test_the_published_settings_of_masksplit(data: str) -> None:
    words = ["--preset", f"masksplit-{data}", "--collection", "c", "--output", "o", "--steps", "7"]
    found = read_config(TrainJobConfig, words, job="train", presets=PRESETS)
    network, optimizer = found.segmenter, found.optimizer
    assert (network.learner, network.masking, network.backbone) == ("masksplit", "none", "resnet101_deepstem")
    assert (network.drifting_batchnorm, network.image_size, found.split.as_released) == (True, 400, True)
    assert (found.episodes, found.mask_set, found.stream.batch_size) == ("split", "saliency", 16)
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.steps) == (1e-4, 1e-5, 7)
    published = PRESETS[f"masksplit-{data}"]()
    assert published.optimizer.steps == 36_100 == 100 * published.checkpoint_every
    assert published.augment == AugmentConfig(keep=0.0)
    check_workers(replace(found, scale=ScaleConfig(workers=8)))
    with pytest.raises(ValueError, match=r"no weights for resnet101_deepstem; give the path .* --backbone-weights"):
        create_segmenter(**vars(network))


def test_published_settings_average_no_weights_and_keep_tf32_off() -> None:
    for name, preset in PRESETS.items():
        optimizer = preset().optimizer
        assert (optimizer.precision, optimizer.schedule, optimizer.clip) == ("fp32", "constant", None)
        assert (optimizer.ema == 0) == (name != "classes")
        assert preset().segmenter.drifting_batchnorm == name.startswith("masksplit")


def test_new_settings_of_the_augmentation_keep_the_name_of_older_trainings() -> None:
    config = TrainJobConfig(collection="c", output="o")
    assert work_hash(config, {}) == "e3a3308c9376945c"
    changed = [replace(config, augment=AugmentConfig(**change)) for change in ({"tones": 0.2}, {"cropped": 0.5})]
    assert len({work_hash(each, {}) for each in (config, *changed)}) == 3


def test_without_a_preset_the_command_line_is_as_before() -> None:
    words = ["--collection", "c", "--output", "o", "--steps", "7"]
    found = read_config(TrainJobConfig, words, job="train", presets=PRESETS)
    assert found == TrainJobConfig(collection="c", output="o", optimizer=OptimizerConfig(steps=7))


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Painted pictures as PASCAL, COCO and FSS-1000, by the name of the benchmark."""
    home = tmp_path_factory.mktemp("presets")
    write_voc(home / "pascal", count=240, spread=True)
    write_coco(home / "coco", "train2014", count=300, rendered=False, spread=True)
    names = [f"class-{number:02d}" for number in range(25)]
    write_fss1000(home / "fss", names, images=3)
    splits = {"train": names[:13], "val": names[13:19], "test": names[19:]}
    (home / "fss" / "splits.json").write_text(json.dumps(splits))
    kinds = {"pascal": ("voc", "trainaug"), "coco": ("coco", "train2014"), "fss": ("fss1000", "")}
    return {
        name: ingest_local(
            SourceConfig(kind=kind, path=str(home / name), subset=subset),  # type: ignore[arg-type]
            str(home / f"{name}-collection"),
        ).uri
        for name, (kind, subset) in kinds.items()
    }


def data_of(name: str) -> str:
    """Return the benchmark of a preset; any labelled collection serves the general one."""
    return name.rpartition("-")[2] if "-" in name else "fss"


def tiny(name: str, uri: str) -> TrainJobConfig:
    """Return a preset with a small network for small pictures; batch, lanes, draws and augmentation stay."""
    preset: TrainJobConfig = PRESETS[name]()
    network = replace(
        preset.segmenter, backbone=TINY, backbone_weights=None, frozen=True, image_size=80, width=32, seed=0
    )
    return replace(
        preset,
        collection=uri,
        output="nowhere",
        mask_set="truth",
        segmenter=network,
        stream=replace(preset.stream, decode_threads=1, decoders="threads"),
        optimizer=replace(preset.optimizer, steps=STEPS),
        classes=replace(
            preset.classes,
            fold=None if data_of(name) == "fss" else 0,
            skip_small_classes=True,
            episodes=200,
            val_episodes=9,
        ),
        scale=ScaleConfig(workers=WORKERS, device="cpu"),
    )


def losses(data: TrainingData, rank: int = 0, world: int = 1) -> list[float]:
    """Train some steps of one worker."""
    network: Any = FewShotSegmenter.from_config(data.config.segmenter)
    model = DistributedDataParallel(network) if world > 1 else network
    loop = TrainLoop(model, data.stream(rank=rank, world=world), data.config.optimizer)
    for group in loop.optimizer.param_groups:
        # Adam's first step has the size of the rate even where a gradient is rounding alone, so that its sign would
        # depend on the order of sums. With a large eps the step is proportional to the gradient.
        group["eps"] = 1.0
    return [report.loss for report in loop.run()]


def _train(rank: int, world: int, folder: str, datasets: dict[str, TrainingData]) -> None:
    torch.save({name: losses(data, rank, world) for name, data in datasets.items()}, Path(folder) / f"{rank}.pt")


@pytest.mark.slow
def test_eight_workers_train_with_every_preset(collections: dict[str, str], tmp_path: Path) -> None:
    datasets = {}
    for name in PRESETS:
        config = tiny(name, collections[data_of(name)])
        datasets[name] = TrainingData.open(config)
    train_on_workers(WORKERS, _train, str(tmp_path), datasets)
    by_rank = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORKERS)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers: sums in another order change a loss by up to 2e-5
    try:
        alone = {name: losses(data) for name, data in datasets.items()}
    finally:
        torch.set_num_threads(threads)
    for name, expected in alone.items():
        assert all(each[name] == by_rank[0][name] for each in by_rank), name
        if name.startswith("masksplit"):  # BatchNorm drifts by each worker's own pictures
            assert by_rank[0][name] == pytest.approx(expected, rel=0.2), name
        else:
            assert by_rank[0][name] == pytest.approx(expected, rel=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_dry_run_of_eight_workers(
    name: str, collections: dict[str, str], tmp_path: Path, tracking: TrackingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    data = data_of(name)
    classes = "" if data == "fss" else "--classes.fold 0 "
    classes = "" if name.startswith("masksplit") else f"{classes}--classes.skip-small-classes "
    words = shlex.split(
        f"--preset {name} --collection {collections[data]} --mask-set truth --output {tmp_path} --workers {WORKERS} "
        f"--device cpu --dry-run --backbone {TINY} --backbone-weights None {classes}"
        f"--tracking.uri {tracking.uri}"
    )
    result = train.run(read_config(TrainJobConfig, words, job="train", presets=PRESETS))
    result.show()
    shown = capsys.readouterr().out
    assert result.metrics["train images"] if "train images" in result.metrics else result.metrics["train"]
    assert "workers" in shown and not list(tmp_path.iterdir())
