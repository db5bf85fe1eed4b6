"""The saliency student of the main job: its weights, its masks, and its place in the segmenter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from fss.collection import Collection
from fss.models import SegmenterConfig
from fss.models.backbones.factory import create_backbone
from fss.models.learners.masksplit import MaskSplit
from fss.models.saliency.config import StudentConfig
from fss.saliency.config import StudentTrainingConfig
from fss.training.few_shot.config import StreamConfig
from pipelines import masksplit, train
from pipelines.end_to_end import student as student_stage
from pipelines.end_to_end.config import MaskSplitJobConfig, work
from pipelines.end_to_end.presets import PRESETS
from pipelines.masks.config import TrainSaliencySettings
from pipelines.runtime.config import TrackingConfig
from pipelines.training.config import TrainJobConfig, TrainSettings

pytestmark = pytest.mark.usefixtures("ray_local")
BACKBONE = "timm:test_resnet.r160_in1k"
Paint = Callable[..., str]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    save_file(create_backbone(BACKBONE, MaskSplit.selection, seed=3).state_dict(), path)
    return str(path)


def main_job(weights: str | None, tracking: TrackingConfig, **settings: Any) -> MaskSplitJobConfig:
    segmenter: dict[str, Any] = {"backbone": BACKBONE, "image_size": 80, "width": 32}
    segmenter |= {"density_prior": True, "saliency_prior": "auto", "backbone_weights": weights}
    return MaskSplitJobConfig(
        saliency_student="auto",
        saliency_training=TrainSaliencySettings(
            student=StudentConfig(backbone=BACKBONE, image_size=64, width=16),
            training=StudentTrainingConfig(rounds=1, epochs=1, warm_up=0, held_out=0.3, batch_size=8),
        ),
        train=TrainSettings(segmenter=SegmenterConfig(**segmenter | settings.pop("segmenter", {}))),
        tracking=tracking,
        **settings,
    )


@pytest.mark.slow
def test_the_segmenter_trains_on_the_masks_of_a_student_and_with_it(
    paint: Paint, weights: str, tracking: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings: list[TrainJobConfig] = []

    def record(config: TrainJobConfig, **_: object) -> None:
        trainings.append(config)
        raise NotImplementedError

    monkeypatch.setattr(train, "run", record)
    collection = paint(tmp_path / "c", count=24, part_size=8)
    config = main_job(weights, tracking, photographs=collection, output=str(tmp_path / "work"), data_workers=1, seed=4)
    too_few = replace(config.train, stream=StreamConfig(batch_size=64))
    with pytest.raises(ValueError, match="usable images do not fill one batch of 64"):
        masksplit.run(replace(config, train=too_few, output=str(tmp_path / "other")))
    assert not (tmp_path / "other" / "students").exists(), "before the student is trained"
    for local in (False, True):  # the student trains on a machine of the cluster; the second run finds it finished
        monkeypatch.setattr(student_stage, "is_local", lambda local=local: local)
        with pytest.raises(NotImplementedError):
            masksplit.run(config)
    first, resumed = trainings
    assert first == resumed
    (student,) = (tmp_path / "work" / "students").rglob("student.safetensors")
    assert first.mask_set == "student" and first.segmenter.saliency_prior == str(student)
    masks = Collection.open(collection).mask_set("student")
    assert masks.provenance["estimator"] == "student" and masks.read_acceptance("default").accepted
    assert Collection.open(collection).mask_set("saliency").provenance["estimator"] == "classical"
    assert train.resolve(first).segmenter.saliency_prior == str(student)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmenter": {"backbone_weights": None}}, "and the segmenter has no weights; give --saliency-training.back"),
        ({"segmenter": {"backbone": "resnet18"}}, "its backbone timm:test_resnet.r160_in1k, .* has those of resnet18"),
        ({"answer": "network"}, "answer is network, but the segmenter has a density prior; leave one of the two"),
        (
            {"answer": "network", "segmenter": {"density_prior": False}},
            "leave --saliency-prior out, or give --density-prior",
        ),
        ({"saliency_student": "none"}, "saliency-prior is auto, but the job trains no saliency student"),
    ],
)
def test_mistakes_are_told_before_any_work(
    change: dict[str, Any], message: str, weights: str, tracking: TrackingConfig, tmp_path: Path
) -> None:
    config = main_job(weights, tracking, segmenter=change.get("segmenter", {}), output=str(tmp_path / "work"))
    others = {name: value for name, value in change.items() if name != "segmenter"}
    with pytest.raises(ValueError, match=message):
        masksplit.run(replace(config, **others))
    assert not (tmp_path / "work").exists()


def test_the_network_is_joined_with_density_where_a_student_is_trained(weights: str, tracking: TrackingConfig) -> None:
    plain = {"density_prior": False, "saliency_prior": None}
    joined = masksplit.resolve(main_job(weights, tracking, segmenter=plain)).train.segmenter
    assert joined.density_prior and joined.saliency_prior == "auto"
    for alone in ({"answer": "network"}, {"saliency_student": "none"}):
        config = replace(main_job(weights, tracking, segmenter=plain), **alone)
        segmenter = masksplit.resolve(config).train.segmenter
        assert not segmenter.density_prior and segmenter.saliency_prior is None
    for other in ({"learner": "hsnet"}, {"masking": "feature"}):
        assert not masksplit.resolve(main_job(weights, tracking, segmenter=plain | other)).train.segmenter.density_prior


def test_without_a_student_jobs_of_earlier_versions_resume() -> None:
    assert not {"saliency_student", "saliency_training"} & work(MaskSplitJobConfig(saliency_student="none")).keys()
    assert work(MaskSplitJobConfig(saliency_student="auto"))["saliency_student"] == "auto"


def test_the_published_method_has_no_student() -> None:
    assert {PRESETS[name]().saliency_student for name in ("paper", "sample")} == {"none"}
