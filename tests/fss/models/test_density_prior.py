"""MaskSplit with a density prior: trained alone, its answer is joined with that of the learner density."""

from dataclasses import replace
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


def alone(network: FewShotSegmenter) -> FewShotSegmenter:
    """Return the segmenter without density that has the same weights."""
    config = replace(network.config, density_prior=False)
    other = FewShotSegmenter.from_config(config).eval()
    other.load_state_dict({name: value for name, value in network.state_dict().items() if "prior" not in name})
    return other


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("shots", [1, 3])
def test_its_log_odds_are_those_of_density_and_of_the_network(prior: bool, shots: int) -> None:
    network = segmenter(prior=prior)
    density = FewShotSegmenter.from_config(segmenter("density").config, prior=network.prior).eval()
    density.backbone.load_state_dict(network.backbone.state_dict())
    batch = episode(2, shots)

    def odds(each: FewShotSegmenter) -> torch.Tensor:
        logits = each(*batch)
        return logits[:, 1] - logits[:, 0]

    with torch.no_grad():
        joined, of_density, of_network = odds(network), odds(density), odds(alone(network))
        query, support = density.encode_episode(*batch)
        agreement = density.learner.compare(query[:-1], support[:-1], batch[2].flatten(0, 1), shots).agreement
    trust = 1.0 if agreement is None else agreement[:, 0]
    assert agreement is None or (agreement > 0.01).all()
    torch.testing.assert_close(joined, of_density + trust * of_network, rtol=1e-4, atol=1e-2)


def test_in_training_it_is_the_network_alone() -> None:
    network = segmenter().train()
    batch = episode(2, 2)
    for module in network.modules():
        assert not isinstance(module, torch.nn.Dropout)
    torch.testing.assert_close(network(*batch), alone(network).train()(*batch))
    query, _ = network.encode_episode(*batch)
    assert len(query) == 4  # three maps of the network and the last one of the backbone


@pytest.mark.parametrize("settings", [{}, {"prior": False, "similarity": True, "density": {"support_crop": False}}])
def test_contract(settings: dict[str, Any], tmp_path: Path) -> None:
    network = segmenter(**settings)
    check_shapes(network)
    check_batches_and_shots(network)
    check_encoded_images_are_enough(network)
    check_state(network, tmp_path)
    check_training(network)


def test_training_reaches_every_layer_and_lowers_the_loss() -> None:
    network = segmenter().train()
    trained = {name: each for name, each in network.named_parameters() if each.requires_grad}
    optimizer = torch.optim.Adam(trained.values(), 3e-4)
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
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


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
