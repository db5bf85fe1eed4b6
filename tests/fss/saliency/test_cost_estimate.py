"""The arithmetic of the estimate by hand, and the measurement of a small collection."""

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from fss.collection import Collection
from fss.collection.schema import image_table
from fss.core.system import one_thread
from fss.saliency import SaliencyConfig, fleet_limits
from fss.saliency.config import Fleet
from fss.saliency.cost_estimate import duration, estimate_cost, measure_sample
from fss.saliency.fleet_limits import CostSample, ingest_limits, mask_limits
from pipelines.runtime import part_calls
from tests.fss.saliency.test_pseudomask import make

SAMPLE = CostSample(
    images=64,
    image_bytes=100_000,
    mask_bytes=5_000,
    cpu_s={"decode": 0.01, "estimate": 0.08, "encode": 0.01},
    ingest_s=0.001,
)
FLEET = Fleet(images=1e6, part_size=1000, cores=100, efficiency=0.8, interruptions=0.1)


def test_a_million_images_by_hand() -> None:
    estimate = estimate_cost(SAMPLE, FLEET)
    assert estimate["images"] == "1,000,000 in 1,000 parts of 1,000"
    assert estimate["CPU hours"] == "35"  # 1e6 * 0.1 s / 3600 / 0.8
    # 1e5 s / 100 / 0.8 and 0.17 % for interruptions; then the driver
    driver = duration(fleet_limits.DRIVER_JOB_S + 1e6 * fleet_limits.DRIVER_ROW_S)
    assert re.fullmatch(
        rf"2\d\.\d min: masks 20\.9 min, start and acceptance {driver} on one core", estimate["wall time"]
    )
    # 100 cores at 0.8 make 800 a second; of S3's 5,500 reads a part of 1,000 takes 14, of its 3,500 writes 2.
    dispatch = f"dispatch {1000 * fleet_limits.DISPATCHED_PER_S:,}"
    others = estimate["limits, masks"].removeprefix("800 images/s, by 100 cores; the others would allow more: ")
    assert set(others.split(", ")) == {dispatch, "S3 reads 392,857", "S3 writes 1,750,000"}
    # Two reads of a file and 8 of a part of 1,000 limit what 100 cores could check in 1 ms each.
    assert estimate["limits, ingest"].startswith("2,739 images/s, by S3 reads; the others ")
    assert "100 cores 80,000" in estimate["limits, ingest"]
    assert estimate["ingest"] == "6.1 min from files"
    assert estimate["storage"] == "images 100 GB, masks 5 GB; 2,000 objects of 100 MB and 5 MB"
    assert estimate["requests, masks"] == "2,000 PUT and POST, 14,000 GET and HEAD, 1 LIST"
    # 100 MB are 10 pieces of 10 MiB, two more requests, and one each of manifest and hashes. 8 reads per part, 2 per
    # image, a listing per 1000 images.
    assert estimate["requests, ingest"] == "14,000 PUT and POST, 2,008,000 GET and HEAD, 1,000 LIST"
    assert estimate["request rate"] == "11.2 reads/s and 1.60 writes/s, 83.9 MB/s"
    assert estimate["spot machines"].startswith("a part takes 2.1 min;")
    assert "0.17% of the work" in estimate["spot machines"]
    assert estimate["GPU hours"].startswith("none")


def test_gpus_determine_the_wall_time_where_they_are_slower() -> None:
    sample = replace(SAMPLE, gpu_s=0.05)
    estimate = estimate_cost(sample, replace(FLEET, gpus=4, interruptions=0.0))
    assert estimate["GPU hours"] == "17"
    assert "masks 4.3 h" in estimate["wall time"]
    assert estimate["limits, masks"].startswith("64 images/s, by 4 GPUs; the others would allow more: 100 cores 800, ")
    with pytest.raises(ValueError, match="give the fleet at least one"):
        estimate_cost(sample, FLEET)


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({}, "100 cores"),
        ({"images": 1e9, "cores": 5000}, "S3 reads"),
        ({"images": 1e9, "cores": 5000, "part_size": 100}, "S3 reads"),
    ],
)
def test_the_least_limit_is_the_one_that_counts(change: dict[str, int], first: str) -> None:
    fleet, sample = replace(FLEET, interruptions=0.0, **change), replace(SAMPLE, cpu_s={"estimate": 0.001})
    limits = mask_limits(sample, fleet)
    assert min(limits, key=lambda name: limits[name]) == first
    assert f"masks {duration(fleet.images / min(limits.values()))}," in estimate_cost(sample, fleet)["wall time"]


def test_more_cores_than_parts_have_no_work() -> None:
    rates = [mask_limits(SAMPLE, replace(FLEET, cores=cores))[f"{cores:,} cores"] for cores in (1000, 1001, 4000)]
    assert rates[0] == rates[1] == rates[2] == pytest.approx(1000 * 0.8 / 0.1)
    half = mask_limits(SAMPLE, replace(FLEET, cores=999))["999 cores"]
    assert half == pytest.approx(rates[0] / 2), "the last of 1,000 parts takes as long as the others"


def test_short_parts_share_a_task_as_in_the_driver() -> None:
    """For 4,096 cores a task takes 13.7 s; a part of 64 images takes 8 s here, one of 16 takes 2 s."""
    drivers = (part_calls.CALL_S, part_calls.CALLS_PER_S, part_calls.MAX_NAMES)
    assert drivers == (fleet_limits.TASK_S, fleet_limits.TASKS_PER_S, fleet_limits.MAX_PARTS)
    rate = fleet_limits.DISPATCHED_PER_S
    for size, parts in ((64, 1), (16, 6), (1, 109)):
        assert mask_limits(SAMPLE, replace(FLEET, cores=4096, part_size=size))["dispatch"] == rate * parts * size


def test_photographs_in_several_prefixes_are_read_faster_until_another_limit_counts() -> None:
    rates = [ingest_limits(SAMPLE, replace(FLEET, source_prefixes=count)) for count in (1, 4, 40)]
    assert rates[1]["S3 reads"] == pytest.approx(4 * rates[0]["S3 reads"])
    assert min(rates[2], key=lambda name: rates[2][name]) == "listing"


def test_durations() -> None:
    assert [duration(s) for s in (5, 150, 7200, 200_000)] == ["5.0 s", "2.5 min", "2.0 h", "2.3 days"]


@pytest.mark.parametrize(
    "mistake",
    [{"images": 0}, {"cores": 0}, {"efficiency": 0.0}, {"interruptions": -1.0}, {"sample": 0}, {"source_prefixes": 0}],
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
    assert 0 < sample.ingest_s < sample.cpu_s["estimate"]
    assert re.match(r"3 images, [0-9.]+ images/s on one core", estimate_cost(sample, FLEET)["measured"])


def test_a_sample_is_measured_on_one_thread() -> None:
    """Threads of linear algebra that wait in busy loops would multiply the CPU time."""
    matrix = np.random.default_rng(0).random((1500, 1500))
    with one_thread():
        wall, cpu = time.perf_counter(), time.process_time()
        matrix @ matrix
        assert time.process_time() - cpu < 1.2 * (time.perf_counter() - wall) + 0.01
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}


def test_a_sample_without_a_usable_image_is_an_error(tmp_path: Path) -> None:
    collection = Collection.create(str(tmp_path / "c"), name="c", source="tests")
    collection.write_part("part-00000", image_table([{"image_id": "a", "uri": "a.jpg", "error": "empty: no bytes"}]))
    with pytest.raises(ValueError, match="no usable image"):
        measure_sample(collection, SaliencyConfig(), images=8, seed=0, device="cpu")
