"""A training step of every learner at its published size, without a GPU, on tensors without data.

Mixed devices, shapes and dtypes fail as on a GPU, and so does everything that makes the host wait. torch's engine has
no backward pass for CUDA tensors without a GPU, so the whole step runs on the device ``meta``.
"""

import copy
import functools
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fss.episodes.augmentation import identity_view
from fss.episodes.episode import EpisodeBatch, RawEpisodes
from fss.models import FewShotSegmenter, create_segmenter
from fss.models.config import published_image_size
from fss.training.few_shot.config import OptimizerConfig
from fss.training.few_shot.loop import TrainLoop
from fss.training.losses import cross_entropy_sum
from tests.helpers.no_syncs import NoSyncs

PUBLISHED = {
    "masksplit": ("resnet101_deepstem", 16),
    "masksplit with density": ("resnet101_deepstem", 16),
    "hsnet": ("resnet50", 20),
    "asnet": ("resnet101", 24),
    "vat": ("resnet50", 16),
}
NETWORKS = [("masksplit", "none", 1), ("hsnet", "hybrid", 1), ("hsnet", "feature", 2), ("asnet", "none", 1)]
NETWORKS += [
    pytest.param(learner, masking, 1, marks=pytest.mark.slow)
    for learner, masking in (("vat", "feature"), ("masksplit with density", "none"))
]


@functools.cache
def meta_network(learner: str, masking: str) -> FewShotSegmenter:
    size = published_image_size(learner, "pascal")
    backbone = PUBLISHED[learner][0]
    kind = {"density_prior": True} if learner == "masksplit with density" else {"learner": learner}
    network = create_segmenter(**kind, masking=masking, backbone=backbone, frozen=True, image_size=size)
    return network.to("meta")


def move_without_data(network: nn.Module, device: str) -> None:
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, value in tensors.items():
                if value is not None:
                    moved = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
                    trained = isinstance(value, nn.Parameter)
                    tensors[name] = nn.Parameter(moved, value.requires_grad) if trained else moved


def batch_without_data(learner: str, shots: int, device: str) -> EpisodeBatch:
    size, count = published_image_size(learner, "pascal"), PUBLISHED[learner][1]
    return EpisodeBatch(
        query=torch.empty(count, 3, size, size, device=device),
        target=torch.empty(count, size, size, dtype=torch.long, device=device),
        support_images=torch.empty(count, shots, 3, size, size, device=device),
        support_masks=torch.empty(count, shots, size, size, device=device),
        ids=tuple(map(str, range(count))),
    )


@pytest.mark.parametrize(("learner", "masking", "shots"), NETWORKS)
def test_a_forward_pass_on_cuda(learner: str, masking: str, shots: int) -> None:
    network = copy.deepcopy(meta_network(learner, masking))
    with FakeTensorMode(), NoSyncs():
        move_without_data(network, "cuda")
        batch = batch_without_data(learner, shots, "cuda")
        loss = cross_entropy_sum(network(batch.query, batch.support_images, batch.support_masks), batch.target)
    assert (loss.device.type, loss.dtype) == ("cuda", torch.float32)


@pytest.mark.parametrize(("learner", "masking", "shots"), NETWORKS)
def test_a_step_reads_no_value(learner: str, masking: str, shots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainLoop, "_read", staticmethod(lambda values: [1.0, 1.0]))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # it does not know the device meta
    stream = SimpleNamespace(image_size=published_image_size(learner, "pascal"), steps_per_epoch=1)
    config = OptimizerConfig(accumulate=2, clip=1.0)
    network = copy.deepcopy(meta_network(learner, masking))
    loop = TrainLoop(network, stream, config, device="meta")  # type: ignore[arg-type]
    batch = batch_without_data(learner, shots, "meta")
    loop._train(SimpleNamespace(to=lambda device: SimpleNamespace(render=lambda size: batch)))  # type: ignore[arg-type]
    for parameter in loop.parameters:
        gradient: Tensor | None = parameter.grad
        assert gradient is not None and gradient.device.type == "meta" and gradient.dtype == torch.float32


def test_rendering_reads_no_value() -> None:
    size, count = 32, 4
    plain = torch.from_numpy(identity_view())
    changed = torch.tensor([0.9, 0.1, 0, -0.1, 0.9, 0, 1.1, 0.9, 1.2, 0.1, 3, 1, 1, 1, 1, 0.3, 0.7, 0.1, 0.1, 1, 5])
    views = torch.stack([plain, *[changed] * (count - 1)])
    raw = RawEpisodes(
        query=torch.zeros(count, 3, size, size, dtype=torch.uint8),
        query_masks=torch.zeros(count, size, size, dtype=torch.uint8),
        query_views=views,
        support_masks=torch.zeros(count, 1, size, size, dtype=torch.uint8),
        support_views=views[:, None],
        ids=tuple("abcd"),
        partners=torch.tensor([1, 0, 3, 2]),
        placements=torch.tensor([[0.7, 0, 0], [0, 0, 0], [0.6, 0.1, 0], [1, 0, 0]]),
    )
    batch = raw.to("meta").render(size)
    assert {batch.query.device.type, batch.target.device.type, batch.support_masks.device.type} == {"meta"}


def test_the_mode_finds_what_waits() -> None:
    with FakeTensorMode(), NoSyncs():
        values = torch.empty(3, device="cuda")
        for wait in (lambda: float(values.sum()), lambda: values.nonzero(), lambda: values.cpu()):
            with pytest.raises(AssertionError, match="the host waits"):
                wait()
        with pytest.raises(AssertionError, match="the host waits for a copy"):
            torch.ones(3).to("cuda")
        torch.ones(3).to("cuda", non_blocking=True)
