"""Background discovery on synthetic features and with a small transformer."""

import numpy as np
import pytest
import torch

from fss.collection.schema import GATES, SCORES
from fss.saliency.vit import ViTEstimator, object_map
from tests.helpers.discs import disc

TINY = "vit_tiny_patch16_224"


def test_object_map_separates_two_kinds_of_patches() -> None:
    rng = np.random.Generator(np.random.Philox(key=0))
    truth = np.zeros(64, bool)
    truth[[27, 28, 35, 36]] = True
    kinds = rng.normal(size=(2, 3, 8))
    keys = np.where(truth[None, :, None], kinds[1][:, None], kinds[0][:, None]) + rng.normal(0, 0.05, (3, 64, 8))
    attention = np.where(truth, 0.2, 0.003) + rng.uniform(0, 0.002, (3, 64))
    objects = object_map(torch.tensor(keys)[None], torch.tensor(attention)[None])
    assert ((objects[0] > 0.5).numpy() == truth).all()


def test_a_batch_gives_the_results_of_single_images() -> None:
    torch.manual_seed(0)
    keys, attention = torch.randn(3, 2, 16, 4), torch.rand(3, 2, 16)
    together = object_map(keys, attention)
    for k in range(3):
        torch.testing.assert_close(object_map(keys[k : k + 1], attention[k : k + 1])[0], together[k])


def test_attention_and_keys_equal_those_of_the_last_block() -> None:
    estimator = ViTEstimator(TINY, weights=None, image_size=64)
    block = estimator.network.blocks[-1].attn
    inputs: list[torch.Tensor] = []
    block.register_forward_hook(lambda _, given, out: inputs.extend((given[0], out)))
    keys, attention = estimator._keys_and_attention(torch.randn(2, 3, 64, 64))
    assert keys.shape == (2, 3, 16, 64) and attention.shape == (2, 3, 16)
    x, out = inputs
    query, key, value = block.qkv(x).reshape(2, 17, 3, 3, 64).permute(2, 0, 3, 1, 4)
    full = (query @ key.transpose(2, 3) * block.scale).softmax(3)
    torch.testing.assert_close(block.proj((full @ value).transpose(1, 2).flatten(2)), out, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(full[:, :, 0, 1:], attention)


def test_results_have_the_form_of_the_classical_estimator() -> None:
    estimator = ViTEstimator(TINY, weights=None, image_size=64)
    pictures = [disc()[0], disc(50, 200)[0], np.full((20, 30, 3), 7, np.uint8)]
    for rgb, result in zip(pictures, estimator.estimate_batch(pictures), strict=True):
        assert result.mask.shape == result.soft.shape == rgb.shape[:2]
        assert result.mask.max() <= 1 and 0 <= result.soft.min() <= result.soft.max() <= 1
        assert set(result.scores) == {*SCORES, *GATES}


def test_unsuitable_models_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"no vision transformer|cannot build"):
        ViTEstimator("resnet18", weights=None, image_size=64)
    with pytest.raises(ValueError, match="no weights file"):
        ViTEstimator(TINY, weights="nowhere.pth", image_size=64)
