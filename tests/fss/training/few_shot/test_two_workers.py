"""Every learner and masking strategy trains on two workers as on one: uneven shares, accumulated passes, resume.

The workers share the validation, and each gets the metrics of one worker.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from fss.collection import ClassIndex, Collection, ImageReader, MaskSet
from fss.episodes.augmentation import identity_view
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.episodes.episode import RawEpisodes
from fss.episodes.episode_plan import make_plan
from fss.models import create_segmenter
from fss.training.few_shot.config import HELD_OUT_IOU, HELD_OUT_LOSS, VAL_MIOU, OptimizerConfig, StreamConfig
from fss.training.few_shot.loop import TrainLoop
from fss.training.few_shot.mask_split_stream import MaskSplitStream
from fss.training.few_shot.validation import EpisodeValidator, PseudoTaskValidator
from tests.helpers.networks import TinySegmenter
from tests.helpers.processes import train_on_workers

SIZE, STEPS, RESUMED = 80, 3, 2
BATCH = 3  # shares of 2 and 1
VIEW = torch.from_numpy(identity_view())
LEARNERS, MASKINGS = ("masksplit", "hsnet", "asnet", "vat"), ("none", "feature", "input", "hybrid")
Case = tuple[str, str, int]
FAST: tuple[Case, ...] = (
    ("masksplit", "hybrid", 2),
    ("hsnet", "none", 2),
    ("asnet", "input", 2),
    ("vat", "feature", 2),
)
CASES = [
    pytest.param(case, id="-".join(map(str, case)), marks=() if case in FAST else pytest.mark.slow)
    for case in (*product(LEARNERS, MASKINGS, (1, 2)), ("masksplit with density", "none", 2))
]


@dataclass
class Stream:
    """Random episodes, which depend only on the step; a rank takes every ``world``-th one."""

    rank: int = 0
    world: int = 1
    batch: int = BATCH
    image_size: int = SIZE
    steps_per_epoch: int = STEPS

    def batches(self, epoch: int, start: int = 0) -> Iterator[RawEpisodes]:
        for step in range(start, self.steps_per_epoch):
            rng = torch.Generator().manual_seed(step)
            pixels = torch.randint(0, 256, (self.batch, 2, 3, SIZE, SIZE), generator=rng, dtype=torch.uint8)
            masks = (torch.rand(self.batch, 2, SIZE, SIZE, generator=rng) > 0.5).to(torch.uint8)
            masks[0, 0, :50] = 255  # the workers have different numbers of valid pixels
            masks[:, 1, : SIZE // 2] = 1
            share = slice(self.rank, None, self.world)
            pixels, masks = pixels[share], masks[share]
            yield RawEpisodes(
                query=pixels[:, 0],
                query_masks=masks[:, 0],
                query_views=VIEW.repeat(len(pixels), 1),
                support=pixels[:, 1:],
                support_masks=masks[:, 1:],
                support_views=VIEW.repeat(len(pixels), 1, 1),
                ids=tuple(f"{step} {row}" for row in range(self.batch)[share]),
            )


def _in_float64(network: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.double() if torch.is_tensor(value) and value.is_floating_point() else value for value in args)


def losses(
    learner: str, masking: str, accumulate: int, rank: int = 0, world: int = 1, batch: int = BATCH
) -> list[float]:
    """Train three steps, of which the last one is done by a loop that resumes the state of the first two."""
    config = OptimizerConfig(steps=STEPS, learning_rate=1e-3, accumulate=accumulate)

    def loop() -> TrainLoop:
        kind = {"density_prior": True} if learner == "masksplit with density" else {"learner": learner}
        network = create_segmenter(
            **kind, masking=masking, backbone="timm:test_resnet.r160_in1k", frozen=True, image_size=SIZE
        )
        if learner.startswith("masksplit"):  # in float32, a rounded zero before a ReLU changes its gradient by 1e-4
            network.double().register_forward_pre_hook(_in_float64)
        return TrainLoop(DistributedDataParallel(network) if world > 1 else network, Stream(rank, world, batch), config)

    first, second = loop(), loop()
    reports = [report.loss for _, report in zip(range(RESUMED), first.run(), strict=False)]
    second.load_state_dict(first.state_dict())
    return reports + [report.loss for report in second.run()]


def validations(collection: str, rank: int = 0, world: int = 1) -> list[dict[str, float]]:
    """Validate networks on six batches of tasks, on one, which two workers divide, and on episodes."""
    masks = Collection.open(collection).mask_set("saliency")
    metrics = []
    for batch, precision in ((2, "fp32"), (12, "fp32"), (2, "bf16")):
        stream = MaskSplitStream(
            masks.collection,
            masks,
            image_size=32,
            stream=StreamConfig(batch_size=batch, held_out=0.3),
            split=SplitConfig(),
            augment=AugmentConfig(),
            rank=rank if world <= batch // 2 else 0,
            world=min(world, batch // 2),
        )
        network = TinySegmenter(normalise=True)
        network.norm.running_mean.fill_(0.1 + rank)  # type: ignore[union-attr,operator]  # the first worker's counts
        validator = PseudoTaskValidator(stream, 11, precision=precision)  # type: ignore[arg-type]
        metrics.append(validator.validate(network, torch.device("cpu")))
    episodes = EpisodeValidator(
        make_plan(ClassIndex.build(masks), episodes=12, shots=1, seed=0),
        ImageReader(masks.collection, masks),
        image_size=SIZE,
        stream=StreamConfig(),
    )
    hsnet = create_segmenter(learner="hsnet", masking="hybrid", backbone="timm:test_resnet.r160_in1k", image_size=SIZE)
    return [*metrics, episodes.validate(hsnet, torch.device("cpu"))]


def _train(
    rank: int, world: int, folder: str, cases: list[Case], collection: str | None = None, batch: int = BATCH
) -> None:
    results: dict[Any, Any] = {case: losses(*case, rank=rank, world=world, batch=batch) for case in cases}
    if collection:
        results["validations"] = validations(collection, rank, world)
    torch.save(results, Path(folder) / f"{rank}.pt")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute with one thread, as the workers do: sums in another order change a loss by up to 2e-5."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def together(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, discs: tuple[Collection, MaskSet]
) -> list[dict[Any, Any]]:
    """The losses of the chosen cases, and the validations, by rank; the two processes start once."""
    folder = tmp_path_factory.mktemp("two-workers")
    mine = [item for item in request.session.items if {"case", "together"} <= set(item.fixturenames)]  # type: ignore[attr-defined]
    cases = [item.callspec.params["case"] for item in mine]  # type: ignore[attr-defined]
    train_on_workers(2, _train, str(folder), cases, discs[0].uri)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_two_workers_validate_as_one_does(together: list[dict[Any, Any]], discs: tuple[Collection, MaskSet]) -> None:
    first, second = (results["validations"] for results in together)
    assert first == second != []
    one = validations(discs[0].uri)
    loss, whole = first[1].pop(HELD_OUT_LOSS), one[1].pop(HELD_OUT_LOSS)
    assert first == one
    assert loss == pytest.approx(whole, rel=1e-6), "the pixels of a divided batch are added in another order"
    assert 0 < first[0][HELD_OUT_IOU] < 1
    assert 0 < first[-1][VAL_MIOU] < 1


@pytest.mark.parametrize("case", CASES)
def test_two_workers_train_as_one_does(case: Case, together: list[dict[Any, Any]]) -> None:
    one = losses(*case)
    first, second = (results[case] for results in together)
    assert first == second
    difference = max(abs(a - b) / b for a, b in zip(first, one, strict=True))
    print(f"largest relative difference of a loss: {difference:.1e}")
    assert difference < 1e-5
    assert one[0] != one[1] != one[2]


@pytest.mark.slow
def test_eight_workers_share_a_batch_of_twelve(tmp_path: Path) -> None:
    case = ("hsnet", "feature", 2)
    train_on_workers(8, _train, str(tmp_path), [case], None, 12)
    one = losses(*case, batch=12)
    for rank in range(8):
        assert torch.load(tmp_path / f"{rank}.pt")[case] == pytest.approx(one, rel=1e-5)
