"""What every segmenter promises, whatever its learner, masking strategy and backbone.

A new learner's test is one line: call :func:`check_contract` with its settings. Each check stands alone, so that a
failure names the promise that was broken.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fss.models import FewShotSegmenter, create_segmenter, load_checkpoint, save_checkpoint

assert_close = partial(torch.testing.assert_close, rtol=1e-4, atol=2e-5)


def make(**settings: Any) -> FewShotSegmenter:
    """Build a segmenter whose numbers are of ordinary size: a frozen backbone with random weights."""
    return create_segmenter(frozen=True, image_size=96, **settings).eval()


def episode(batch: int = 2, shots: int = 2, height: int = 96, width: int = 96) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    query = torch.randn(batch, 3, height, width, generator=generator)
    supports = torch.randn(batch, shots, 3, height, width, generator=generator)
    rows, cols = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    centres = torch.rand(batch, shots, 2, 1, 1, generator=generator) * 0.4 + 0.3
    masks = ((rows - centres[:, :, 0]) ** 2 + (cols - centres[:, :, 1]) ** 2 < 0.09).float()
    return query, supports, masks


def check_contract(directory: Path, *, trained: bool = True, **settings: Any) -> None:
    """Check every promise for one segmenter; one without training (``trained``) has nothing to train."""
    segmenter = make(**settings)
    check_shapes(segmenter)
    check_batches_and_shots(segmenter)
    check_encoded_images_are_enough(segmenter)
    check_state(segmenter, directory)
    if trained:
        check_training(segmenter)
    else:
        assert not any(parameter.requires_grad for parameter in segmenter.parameters())


def check_shapes(segmenter: FewShotSegmenter) -> None:
    with torch.no_grad():
        for height, width in ((96, 96), (112, 100)):
            logits = segmenter(*episode(1, 1, height, width))
            assert logits.shape == (1, 2, height, width)
            assert logits.isfinite().all() and logits.std() > 0
    with pytest.raises(ValueError, match="too small"):
        segmenter(*episode(1, 1, 48, 96))
    query, supports, masks = episode(2, 1)
    with pytest.raises(ValueError, match="expected query"):
        segmenter(query, supports, masks[:, :, :-1])
    with pytest.raises(ValueError, match="expected query"):
        segmenter(query[:1], supports, masks)


@torch.no_grad()
def check_batches_and_shots(segmenter: FewShotSegmenter) -> None:
    query, supports, masks = episode()
    together = segmenter(query, supports, masks)
    for b in range(2):
        alone = segmenter(query[b : b + 1], supports[b : b + 1], masks[b : b + 1])
        assert_close(alone[0], together[b])
    assert torch.equal(together.argmax(1), segmenter.predict(query, supports, masks)), "training is as prediction"
    swapped = segmenter(query, supports.flip(1), masks.flip(1))
    assert_close(swapped, together)
    twice = supports[:, :1].expand(-1, 2, -1, -1, -1), masks[:, :1].expand(-1, 2, -1, -1)
    once = segmenter(query, supports[:, :1], masks[:, :1])
    same = segmenter.predict(query, *twice, "joint") == once.argmax(1)
    assert same.float().mean() > 0.999  # the same support twice says what it says once
    with pytest.raises(ValueError, match="choose one of"):
        segmenter.predict(query, supports, masks, "median")  # type: ignore[arg-type]


@torch.no_grad()
def check_encoded_images_are_enough(segmenter: FewShotSegmenter) -> None:
    query, supports, masks = episode(2, 1)
    expected = segmenter(query, supports, masks)
    images = torch.cat([query, supports.flatten(0, 1)])
    features = segmenter.encode_images(images)
    query_features = segmenter.encode_query(query, [[m[:2] for m in stage] for stage in features])
    support_features = segmenter.encode_support(
        supports.flatten(0, 1), masks.flatten(0, 1), [[m[2:] for m in stage] for stage in features]
    )
    assert_close(segmenter.decode(query_features, support_features, masks, (96, 96)), expected)
    support_features = segmenter.encode_support(supports.flatten(0, 1), masks.flatten(0, 1))
    logits = segmenter.decode(segmenter.encode_query(query), support_features, masks, (96, 96))
    assert_close(logits, expected)


def check_state(segmenter: FewShotSegmenter, directory: Path) -> None:
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    parameters = {name for name, _ in segmenter.named_parameters()}
    saved = segmenter.state_dict().keys() - parameters
    assert all(name.endswith(statistics) for name in saved), "a saved buffer that could be computed"
    restored = load_checkpoint(save_checkpoint(segmenter, directory))
    assert restored.config == segmenter.config
    batch = episode(1, 1)
    with torch.no_grad():
        torch.testing.assert_close(restored(*batch), segmenter(*batch), rtol=0, atol=0)


def check_training(segmenter: FewShotSegmenter) -> None:
    segmenter.train()
    before = {name: value.clone() for name, value in segmenter.backbone.state_dict().items()}
    query, supports, masks = episode(2, 1)
    F.cross_entropy(segmenter(query, supports, masks), masks[:, 0].long()).backward()  # type: ignore[no-untyped-call]
    idle = set(segmenter.learner.unused_parameters())
    for name, parameter in segmenter.learner.named_parameters():
        if name in idle:
            assert parameter.grad is None, f"{name} is said to be idle"
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), f"{name} got no gradient"
    assert all(parameter.grad is None for parameter in segmenter.backbone.parameters())
    after = segmenter.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items()), "the frozen backbone moved"
    segmenter.zero_grad()
    segmenter.eval()
