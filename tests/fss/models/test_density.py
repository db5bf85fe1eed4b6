"""The training-free learner: its densities by hand, its invariances, its prior, and its place in a segmenter."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fss.models import FewShotSegmenter, SegmenterConfig, create_segmenter, load_checkpoint, save_checkpoint
from fss.models.checkpoint import read_description
from fss.models.config import DensityConfig
from fss.models.learners import density
from fss.models.learners.density import Density, average_over_similar, log_density_ratio
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent, save_student
from fss.models.support_crop import crop_supports
from tests.helpers.segmenter_contract import episode

UP, RIGHT = (0.0, 1.0), (1.0, 0.0)
BANDWIDTH = 2.0


def ratio(weights: list[float], query: tuple[float, float] = UP, points: Any = (UP, RIGHT)) -> float:
    """Return the log ratio at a query cell for support cells with a share in the foreground."""
    result = log_density_ratio(torch.tensor([[query]]), torch.tensor([points]), torch.tensor([weights]), BANDWIDTH)
    return float(result[0, 0])


def small(**settings: Any) -> FewShotSegmenter:
    config = {"learner": "density", "backbone": "mobilenet_v2", "image_size": 96, "frozen": True}
    return create_segmenter(**config | settings).eval()


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = SaliencyStudent(StudentConfig(image_size=64, width=16, backbone="mobilenet_v2"))
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    save_student(network, path, metadata={})
    return path


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1.0, 0.0], BANDWIDTH),  # log e^2 - log e^0
        ([0.0, 1.0], -BANDWIDTH),
        ([0.5, 0.5], 0.0),
        ([1.0, 0.5], math.log((math.e**2 + 0.5) / 1.5)),  # the background is half of the other cell
        ([0.01, 0.0], BANDWIDTH - math.log((0.99 * math.e**2 + 1) / 1.99)),  # thinner than a cell
        ([1.0, 1.0], math.log((math.e**2 + 1) / 2)),  # without background its density is that of a right angle
        ([0.0, 0.0], -BANDWIDTH - math.log((math.e**2 + 1) / 2)),
    ],
)
def test_the_ratio_of_two_cells(weights: list[float], expected: float) -> None:
    assert ratio(weights) == pytest.approx(expected, abs=1e-5)


def test_the_ratio_is_stable_at_large_bandwidths() -> None:
    queries, points = torch.tensor([[UP, RIGHT]]), torch.tensor([[UP, RIGHT]])
    assert log_density_ratio(queries, points, torch.tensor([[1.0, 0.0]]), 1000.0).tolist() == [[1000.0, -1000.0]]


def test_the_order_and_the_repetition_of_cells_do_not_matter() -> None:
    once = ratio([0.8, 0.1])
    assert ratio([0.1, 0.8], points=(RIGHT, UP)) == pytest.approx(once)
    assert ratio([0.8, 0.1, 0.8, 0.1], points=(UP, RIGHT, UP, RIGHT)) == pytest.approx(once)


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, points = (torch.randn(2, n, 5, generator=generator) for n in (7, 9))
    weights = torch.rand(2, 9, generator=generator)
    whole = log_density_ratio(queries, points, weights, 3.0)
    monkeypatch.setattr(density, "_LARGEST_BLOCK", 40)
    torch.testing.assert_close(log_density_ratio(queries, points, weights, 3.0), whole)


def test_the_log_ratio_is_averaged_over_cells_that_look_alike() -> None:
    cells, values = torch.tensor([[UP, UP, RIGHT]]), torch.tensor([[3.0, 0.0, 0.0]])
    near, far = math.e**2, 1.0
    expected = [3 * near / (2 * near + far)] * 2 + [3 * far / (2 * far + near)]
    assert average_over_similar(values, cells, 2.0)[0].tolist() == pytest.approx(expected)


def test_blocks_of_cells_change_no_average(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    cells, values = torch.randn(2, 7, 5, generator=generator), torch.randn(2, 7, generator=generator)
    whole, twice = average_over_similar(values, cells, 3.0), average_over_similar(values, cells, 3.0, times=2)
    torch.testing.assert_close(average_over_similar(whole, cells, 3.0), twice)
    monkeypatch.setattr(density, "_LARGEST_BLOCK", 40)
    torch.testing.assert_close(average_over_similar(values, cells, 3.0), whole)
    torch.testing.assert_close(average_over_similar(values, cells, 3.0, times=2), twice)


def test_the_prior_and_the_cut_are_added_to_the_logit() -> None:
    settings: dict[str, Any] = {"support_crop": False, "smoothing": 0.0}
    learner = Density(DensityConfig(cut=0.5, prior_weight=4.0, prior_center=0.35, **settings))
    generator = torch.Generator().manual_seed(0)
    query, support = ([[torch.nn.functional.normalize(torch.randn(1, 8, 2, 2, generator=generator))]] for _ in "qs")
    masks = torch.zeros(1, 4, 4)
    masks[:, :2] = 1
    plain = learner(query, support, masks, 1)
    assert torch.equal(plain[:, 0], -plain[:, 1])
    prior = torch.rand(1, 1, 2, 2, generator=generator)
    salient = torch.tensor([[[[0.8, 0.6], [0.2, 0.0]]]])  # of the support: IoU 1.4 / 2.2 with its mask, the upper half
    bonus = (learner([*query, [prior]], [*support, [salient]], masks, 1) - plain)[:, 1] * 2
    torch.testing.assert_close(bonus, 4 * 1.4 / 2.2 * (prior[:, 0] - 0.35))
    without_cut = Density(DensityConfig(cut=0.0, **settings))(query, support, masks, 1)
    torch.testing.assert_close(without_cut[:, 1] - plain[:, 1], torch.full((1, 2, 2), 0.25))
    finer = torch.rand(1, 1, 6, 6, generator=generator)
    assert learner([*query, [finer]], [*support, [salient]], masks, 1).shape == (1, 2, 6, 6)
    elsewhere = torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]]])  # the prior of the query is ignored
    torch.testing.assert_close(learner([*query, [prior]], [*support, [elsewhere]], masks, 1), plain)
    twice, both = [[support[0][0].repeat(2, 1, 1, 1)]], [torch.cat([salient, elsewhere])]  # the least of two shots
    torch.testing.assert_close(learner([*query, [prior]], [*twice, both], masks.repeat(2, 1, 1), 2), plain)


def test_a_crop_has_half_the_extent_of_the_object_around_it() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8).expand(2, 3, 8, 8).contiguous()
    masks = torch.zeros(2, 8, 8)
    masks[0, 3:5, 2:6] = 1  # the crop has rows 2 to 5 and all columns; without an object it is the whole picture
    crops, crop_masks = crop_supports(image, masks)
    rows = torch.nn.functional.interpolate(image[:1, :, 2:6], (8, 8), mode="bilinear")
    torch.testing.assert_close(crops[0, :, 1:-1], rows[0, :, 1:-1])  # the rows at the border see those outside
    assert crop_masks[0, :, 4].tolist() == pytest.approx([0, 0.25, 0.75, 1, 1, 0.75, 0.25, 0], abs=1e-6)
    torch.testing.assert_close(crops[1], image[1])
    assert not crop_masks[1].any()


def test_a_checkpoint_contains_its_prior(student: Path, tmp_path: Path) -> None:
    segmenter = small(saliency_prior=str(student))
    assert segmenter.prior is not None and not segmenter.train().prior.training
    save_checkpoint(segmenter.eval(), tmp_path, extra={"step": 3})
    student.rename(student.with_suffix(".gone"))
    loaded = load_checkpoint(tmp_path)
    student.with_suffix(".gone").rename(student)
    assert read_description(tmp_path)["prior"]["width"] == 16
    batch = episode(1, 1)
    with torch.no_grad():
        assert torch.equal(loaded(*batch), segmenter(*batch))
        assert not torch.equal(small()(*batch), segmenter(*batch))


@pytest.mark.parametrize("prior", [[], {"width": 2**20}, {"width": "wide"}, {"image_size": 10**6}])
def test_a_prior_that_makes_no_sense_is_refused(student: Path, tmp_path: Path, prior: Any) -> None:
    save_checkpoint(small(saliency_prior=str(student)), tmp_path, extra={"prior": prior})
    with pytest.raises(ValueError, match=r"must be an object|the limits are|width must|image_size"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masking": "hybrid"}, "density needs the background of its supports; leave --masking at none"),
        ({"learner": "hsnet", "density": {"bandwidth": 9.0}}, "have no effect on hsnet"),
        ({"density": {"bandwidth": 0.0}}, "bandwidth must be greater than 0"),
        ({"saliency_prior": "/no.safetensors"}, "no student at /no.safetensors"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**settings)


def test_only_density_takes_a_prior(student: Path) -> None:
    with pytest.raises(ValueError, match="masksplit takes no saliency prior; leave --saliency-prior out"):
        small(learner="masksplit", saliency_prior=str(student))


def test_settings_that_earlier_versions_lacked_leave_hashes_as_they_were() -> None:
    names = {"learner", "masking", "backbone", "backbone_weights", "image_size", "frozen", "drifting_batchnorm"}
    names |= {"dilated", "width", "similarity", "benchmark", "grid", "seed"}
    assert SegmenterConfig().identity().keys() == names
    changed = SegmenterConfig(learner="density", density=DensityConfig(bandwidth=9.0))
    assert changed.identity()["density"]["bandwidth"] == 9.0
