"""MaskSplit with a density prior: it answers as the learner density does until it is trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from fss.core.config import from_dict
from fss.models import FewShotSegmenter, SegmenterConfig
from fss.models.precision import autocast
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent
from tests.helpers.segmenter_contract import (
    check_batches_and_shots,
    check_encoded_images_are_enough,
    check_shapes,
    check_state,
    check_training,
    episode,
)

BACKBONE = "timm:test_resnet.r160_in1k"


def segmenter(learner: str = "masksplit", *, prior: bool = True, **settings: Any) -> FewShotSegmenter:
    values: dict[str, Any] = {"backbone": BACKBONE, "image_size": 96, "width": 32, "frozen": True}
    values |= {"learner": learner, "density_prior": learner == "masksplit"}
    config = from_dict(SegmenterConfig, values | settings)
    student = SaliencyStudent(StudentConfig(image_size=64, width=16, backbone=BACKBONE)) if prior else None
    return FewShotSegmenter.from_config(config, prior=student).eval()


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("shots", [1, 3])
def test_without_training_it_answers_as_density_does(prior: bool, shots: int) -> None:
    density, network = segmenter("density", prior=prior), segmenter(prior=prior)
    batch = episode(2, shots)
    with torch.no_grad():
        torch.testing.assert_close(network(*batch), density(*batch))
        query, support = network.encode_episode(*batch)
        each = network.shot_logits(query, support, batch[2], (96, 96))
        alone = [density(batch[0], batch[1][:, shot : shot + 1], batch[2][:, shot : shot + 1]) for shot in range(shots)]
        torch.testing.assert_close(each, torch.stack(alone, 1))


@pytest.mark.parametrize("settings", [{}, {"prior": False, "similarity": True, "density": {"support_crop": False}}])
def test_contract(settings: dict[str, Any], tmp_path: Path) -> None:
    network = segmenter(**settings)
    torch.nn.init.normal_(network.learner.decoder[-1].weight)  # type: ignore[union-attr, index]
    check_shapes(network)
    check_batches_and_shots(network)
    check_encoded_images_are_enough(network)
    check_state(network, tmp_path)
    check_training(network)


def test_training_reaches_every_layer_and_lowers_the_loss() -> None:
    network = segmenter().train()
    trained = {name: each for name, each in network.named_parameters() if each.requires_grad}
    optimizer = torch.optim.Adam(trained.values(), 1e-3)
    query, supports, masks = episode(2, 1)
    losses = []
    for _ in range(3):
        loss = F.cross_entropy(network(query, supports, masks), masks[:, 0].long())
        gradients = torch.autograd.grad(loss, list(trained.values()))
        for parameter, gradient in zip(trained.values(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses == sorted(losses, reverse=True)
    assert "learner.gain" in trained and all(gradient.abs().sum() > 0 for gradient in gradients)


def test_logits_are_float32_under_autocast() -> None:
    with torch.no_grad(), autocast("cpu", "bf16"):
        assert segmenter()(*episode(1, 1)).dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masking": "hybrid"}, "density needs the background of its supports; leave --masking at none"),
        ({"learner": "hsnet", "density_prior": True}, "only masksplit takes a density prior, not hsnet"),
        ({"density_prior": False, "density": {"cut": 0.0}}, "leave --density.* out, or give --density-prior"),
        ({"density_prior": False}, "takes no saliency prior; leave --saliency-prior out, or give --density-prior"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        segmenter(**settings)
