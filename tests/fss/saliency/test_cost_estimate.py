"""The arithmetic of the estimate by hand, and the measurement of a small collection."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fss.collection import Collection
from fss.collection.schema import image_table
from fss.saliency import SaliencyConfig
from fss.saliency.config import Fleet
from fss.saliency.cost_estimate import CostSample, duration, estimate_cost, measure_sample, prefixes
from tests.fss.saliency.test_pseudomask import make

SAMPLE = CostSample(
    images=64, image_bytes=100_000, mask_bytes=5_000, cpu_s={"decode": 0.01, "estimate": 0.08, "encode": 0.01}
)
FLEET = Fleet(images=1e6, part_size=1000, cores=100, efficiency=0.8, interruptions=0.1)


def test_a_million_images_by_hand() -> None:
    estimate = estimate_cost(SAMPLE, FLEET)
    assert estimate["images"] == "1,000,000 in 1,000 parts of 1,000"
    assert estimate["CPU hours"] == "35"  # 1e6 * 0.1 s / 3600 / 0.8
    assert estimate["wall time"] == "20.9 min on 100 cores"  # 1e5 s / 100 / 0.8, plus 0.17 % for interruptions
    assert estimate["storage"] == "images 100 GB, masks 5 GB; 2,000 objects of 100 MB and 5 MB"
    assert estimate["requests, masks"] == "1,000 PUT and POST, 14,000 GET and HEAD, 1 LIST"
    # 100 MB are 10 pieces of 10 MiB and two more requests. 8 reads per part, 2 per image, a listing per 1000 images.
    assert estimate["requests, ingest"] == "12,000 PUT and POST, 2,008,000 GET and HEAD, 1,000 LIST"
    assert estimate["request rate"].startswith("11.2 reads/s and 0.80 writes/s, 83.9 MB/s;")
    assert estimate["request rate"].endswith("needs 1")
    assert estimate["spot machines"].startswith("a part takes 2.1 min;")
    assert "0.17% of the work" in estimate["spot machines"]
    assert estimate["GPU hours"].startswith("none")


def test_gpus_determine_the_wall_time_where_they_are_slower() -> None:
    sample = replace(SAMPLE, gpu_s=0.05)
    estimate = estimate_cost(sample, replace(FLEET, gpus=4, interruptions=0.0))
    assert estimate["GPU hours"] == "17"
    assert estimate["wall time"] == "4.3 h on 100 cores and 4 GPUs"
    with pytest.raises(ValueError, match="give the fleet at least one"):
        estimate_cost(sample, FLEET)


def test_prefixes_and_durations() -> None:
    assert [prefixes(*rates) for rates in ((1, 1), (5500, 3500), (5501, 0), (0, 7001))] == [1, 1, 2, 3]
    assert [duration(s) for s in (5, 150, 7200, 200_000)] == ["5.0 s", "2.5 min", "2.0 h", "2.3 days"]


@pytest.mark.parametrize(
    "mistake", [{"images": 0}, {"cores": 0}, {"efficiency": 0.0}, {"interruptions": -1.0}, {"sample": 0}]
)
def test_invalid_fleets_are_rejected(mistake: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        estimate_cost(SAMPLE, replace(FLEET, **mistake))


def test_a_sample_is_measured_and_nothing_is_written(tmp_path: Path) -> None:
    collection, _ = make(tmp_path / "c")
    before = sorted(tmp_path.rglob("*"))
    sample = measure_sample(collection, SaliencyConfig(), images=64, seed=0, device="cpu")
    assert sorted(tmp_path.rglob("*")) == before
    assert sample.images == 3  # of five, one has an error and one is no image
    pictures = [row["image"] for row in collection.read_part("part-00000").to_pylist()[:3]]
    assert sample.image_bytes == pytest.approx(sum(map(len, pictures)) / 4, rel=0.05)
    assert sample.mask_bytes > 100
    assert sample.cpu_s["estimate"] > sample.cpu_s["decode"] > 0 < sample.cpu_s["encode"]
    assert sample.gpu_s == 0
    assert re.match(r"3 images, [0-9.]+ images/s on one core", estimate_cost(sample, FLEET)["measured"])


def test_a_sample_without_a_usable_image_is_an_error(tmp_path: Path) -> None:
    collection = Collection.create(str(tmp_path / "c"), name="c", source="tests")
    collection.write_part("part-00000", image_table([{"image_id": "a", "uri": "a.jpg", "error": "empty: no bytes"}]))
    with pytest.raises(ValueError, match="no usable image"):
        measure_sample(collection, SaliencyConfig(), images=8, seed=0, device="cpu")
