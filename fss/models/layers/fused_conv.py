"""Convolutions of oneDNN that carry their BatchNorm, activation and residual sum, for inference on CPUs.

PyTorch's operators of these names are those that ``torch.compile`` uses on CPUs. One operator writes a map once, where
convolution, BatchNorm, sum and activation would write it four times. It also takes convolutions of 1 x 1 that PyTorch
leaves to a slower matrix product on one thread (tests/benchmarks/README.md, "Networks").
"""

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Activation = Literal["none", "relu", "relu6"]

_ATTRIBUTES: dict[Activation, tuple[str, list[float], str]] = {
    "none": ("none", [], ""),
    "relu": ("relu", [], ""),
    "relu6": ("hardtanh", [0.0, 6.0], ""),
}


class FusedConv(nn.Module):
    """A convolution with its BatchNorm and activation. Maps are ``[B,C,h,w]`` of float32 or bfloat16, on the CPU."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None, activation: Activation = "none") -> None:
        """Take the weights of a convolution with zero padding, and the statistics of the BatchNorm that follows it."""
        super().__init__()
        folded = conv if norm is None else _folded(conv, norm)
        weight, channels = folded.weight.detach(), folded.out_channels
        bias = weight.new_zeros(channels) if folded.bias is None else folded.bias.detach()
        self.register_buffer("weight", weight.clone(memory_format=torch.channels_last), persistent=False)
        self.register_buffer("bias", bias.clone(), persistent=False)
        assert not isinstance(folded.padding, str)
        self.geometry = [*folded.padding], [*folded.stride], [*folded.dilation], folded.groups
        self.activation = activation
        self._packed: tuple[object, Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and activate."""
        weight, bias = self._pack(x)
        attributes = _ATTRIBUTES[self.activation]
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *self.geometry, *attributes)
        return y

    def add(self, x: Tensor, other: Tensor, *, relu: bool) -> Tensor:
        """Convolve ``x``, add ``other``, and apply a ReLU to the sum if asked; the own activation is left out."""
        weight, bias = self._pack(x)
        attributes: tuple[object, ...] = ("add", 1.0, "relu" if relu else None, [], None)
        y: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(x, other, weight, bias, *self.geometry, *attributes)
        return y

    def _pack(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight and bias in the layout that is fastest for this size of map; those of the last size are kept.

        Without the size, oneDNN may choose a layout that is ten times slower.
        """
        key = x.shape, x.dtype
        packed = self._packed
        if packed is None or packed[0] != key:
            weight = self.weight.to(x.dtype)
            layout = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry, list(x.shape))
            packed = self._packed = key, layout, self.bias.to(x.dtype)  # one assignment: threads may share the module
        return packed[1], packed[2]

    def __getstate__(self) -> dict[str, object]:
        """Leave the packed weights out of copies."""
        return {**self.__dict__, "_packed": None}


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return a copy of a convolution that has taken over the BatchNorm after it, with weights that are rounded once.

    Weights computed in float32 would double the error of a hundred layers.
    """
    pair = copy.deepcopy(conv).double().eval(), copy.deepcopy(norm).double().eval()
    folded: nn.Conv2d = fuse_conv_bn_eval(*pair).to(conv.weight.dtype)
    return folded


def fuse_sequence(sequence: nn.Sequential) -> None:
    """Replace each convolution of a sequence, with the BatchNorm and activation after it, by a fused one in place.

    Sequences inside are fused too. The modules that a convolution took over become identities, so that indices stay.
    """
    modules = list(sequence)
    for index, module in enumerate(modules):
        if isinstance(module, nn.Sequential):
            fuse_sequence(module)
        elif isinstance(module, nn.Conv2d):
            followers = modules[index + 1 : index + 3]
            norm = followers[0] if followers and isinstance(followers[0], nn.BatchNorm2d) else None
            after = followers[norm is not None :][:1]
            activation: Activation = "none"
            if after and isinstance(after[0], nn.ReLU | nn.ReLU6):
                activation = "relu6" if isinstance(after[0], nn.ReLU6) else "relu"
            sequence[index] = FusedConv(module, norm, activation)
            for taken in range(index + 1, index + 1 + (norm is not None) + (activation != "none")):
                sequence[taken] = nn.Identity()
