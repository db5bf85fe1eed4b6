"""Masks and images of an exported program are resized by PyTorch's own weights."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fss.models.features import resize
from fss.models.layers.explicit_resize import resize_images, resize_masks, resize_weights
from fss.models.layers.norm import group_norm

MODES = ("bilinear", "nearest", "area")


@pytest.mark.parametrize("mode", MODES)
def test_the_weights_are_those_of_pytorch(mode: str) -> None:
    for length in (2, 37, 96, 192, 353, 400, 473):
        for result in (1, 2, 7, 12, 25, 50, 60):
            pixels = torch.eye(length)[None, :, :, None]
            resized = (
                resize(pixels, (result, 1)) if mode == "bilinear" else F.interpolate(pixels, (result, 1), mode=mode)
            )
            expected, weights = resized[0, :, :, 0].T.numpy(), resize_weights(length, result, mode)
            np.testing.assert_array_equal(weights == 0, expected == 0, f"{length} to {result}")
            np.testing.assert_allclose(weights, expected, rtol=0, atol=0 if mode != "area" else 1e-7)


@pytest.mark.parametrize("result", [1, 7, 160, 224, 256, 512])
@pytest.mark.parametrize("length", [1, 97, 192, 384, 400])
def test_images_are_shrunk_without_aliases(length: int, result: int) -> None:
    rows = resize_images(torch.eye(length)[None, :, :, None].expand(-1, -1, -1, 2), (result, 2))[0, :, :, 0].T
    np.testing.assert_allclose(resize_weights(length, result, "antialiased"), rows, rtol=0, atol=1e-6)


class Resizes(nn.Module):
    def forward(self, masks: torch.Tensor) -> list[torch.Tensor]:
        resized = [resize_masks(masks, (5, 7), mode) for mode in MODES]  # type: ignore[arg-type]
        return [*resized, resize_images(masks[:, None], (11, 13))]


def test_an_exported_program_contains_the_weights_and_no_resize() -> None:
    masks = (torch.rand(2, 37, 53, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    program = torch.export.export(Resizes(), (masks,), strict=False)
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not [name for name in operators if "upsample" in name or "pool" in name or "eye" in name], operators
    for mode, expected, exported in zip(
        (*MODES, "antialiased"), Resizes()(masks), program.module()(masks), strict=True
    ):
        torch.testing.assert_close(exported, expected, rtol=0, atol=1e-6, msg=mode)


def test_an_exported_group_norm_adds_up_no_long_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = nn.GroupNorm(4, 16)
    volume = torch.randn(2, 30, 14, 16, generator=torch.Generator().manual_seed(0)) + 100
    exact = nn.functional.group_norm(volume.double().movedim(3, 1), 4).movedim(1, 3).float()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(group_norm(norm, volume, relu=False), exact, rtol=0, atol=2e-5)
