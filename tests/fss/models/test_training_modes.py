"""A training step under autocast and compiled: the gradients of every learner against those of plain float32."""

import pytest
import torch
from torch import Tensor

from fss.models import FewShotSegmenter, create_segmenter
from fss.models.config import Precision
from fss.models.precision import autocast, set_precision
from fss.models.speed import prepare_training
from fss.training.losses import cross_entropy_sum
from tests.helpers.segmenter_contract import episode

LEARNERS = [
    ("masksplit", "none"),
    ("hsnet", "feature"),
    pytest.param("asnet", "none", marks=pytest.mark.slow),
    pytest.param("vat", "feature", marks=pytest.mark.slow),
]


def network(learner: str, masking: str) -> FewShotSegmenter:
    kind = {"density_prior": True} if learner == "masksplit with density" else {"learner": learner}
    segmenter = create_segmenter(
        **kind, masking=masking, backbone="timm:test_resnet.r160_in1k", frozen=True, image_size=96, width=32
    )
    return segmenter.train()


def loss_and_gradient(segmenter: FewShotSegmenter, precision: Precision = "fp32") -> tuple[float, Tensor]:
    query, supports, masks = episode(2, 1)
    torch.manual_seed(0)  # of VAT's dropout
    with autocast("cpu", precision):
        logits = segmenter(query, supports, masks)
    loss = cross_entropy_sum(logits, masks[:, 0].long()) / masks[:, 0].numel()
    trained = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, trained)
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    return float(loss.detach()), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize(("learner", "masking"), LEARNERS)
def test_half_precision_has_the_direction_of_float32(learner: str, masking: str) -> None:
    segmenter = network(learner, masking)
    (exact, gradient), (rounded, half) = (loss_and_gradient(segmenter, each) for each in ("fp32", "bf16"))
    cosine = float(torch.cosine_similarity(gradient, half, dim=0))
    print(f"{learner}: cosine {cosine:.5f}, loss {exact:.5f} and {rounded:.5f}")
    assert exact != rounded, "autocast did not run"
    assert rounded == pytest.approx(exact, rel=0.02)
    assert cosine > 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("learner", "masking"),
    [
        *(("masksplit", "none"), ("masksplit with density", "none"), ("hsnet", "feature")),
        *(("asnet", "none"), ("vat", "feature")),
    ],
)
def test_a_compiled_step_is_the_eager_one(learner: str, masking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ASNet and VAT are captured with their gradients, but no C++ is made of them, which takes up to ten minutes."""
    if learner in ("asnet", "vat"):
        compiler = torch.compile
        monkeypatch.setattr(torch, "compile", lambda call, **_: compiler(call, backend="aot_eager"))
    eager = network(learner, masking)
    compiled = network(learner, masking)
    prepare_training(compiled, compile=True)
    for module in (eager, compiled):
        getattr(module.learner, "dropout", torch.nn.Identity()).eval()  # compiled, it draws other numbers
    (loss, gradient), (other, gradient_of_compiled) = loss_and_gradient(eager), loss_and_gradient(compiled)
    assert other == pytest.approx(loss, rel=1e-4)
    assert torch.cosine_similarity(gradient, gradient_of_compiled, dim=0) > 0.9999


def test_tf32_is_off_unless_it_is_asked_for() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for precision, expected in (("fp32", False), ("tf32", True), ("bf16", True), ("fp32", False)):
            set_precision(precision, "cuda")  # type: ignore[arg-type]
            assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (expected, expected)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
