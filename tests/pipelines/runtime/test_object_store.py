"""Photographs in an object store to masks in an object store, over its real API: killed, resumed, every part once."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import boto3
import pytest
from werkzeug.serving import WSGIRequestHandler

from fss.collection import Collection
from fss.collection.ingest import start_ingest
from fss.collection.ingest_part import ingest_part
from fss.collection.schema import MASK_SCHEMA, image_table
from fss.collection.sources import SourceConfig
from fss.core import storage
from fss.saliency import SaliencyConfig, fleet_limits
from fss.saliency.pseudomask import pseudomask_part
from pipelines import ingest, pseudomask
from pipelines.masks.config import IngestConfig, PseudomaskJobConfig
from pipelines.runtime.config import TrackingConfig
from tests.helpers.bad_files.formats import OK, bad_files, encoded, picture

PHOTOGRAPHS, PART_SIZE = 40, 2


def names_in(uri: str) -> list[str]:
    return [name for name in storage.list_names(*storage.resolve(uri)) if name.startswith("part-")]


def put_photographs(uri: str) -> None:
    for number in range(PHOTOGRAPHS):
        data = encoded("JPEG", picture((160 + number, 200)))
        storage.write_atomically(*storage.resolve(f"{uri}/{number:03d}.jpg"), data)
    for bad in [bad for bad in bad_files() if bad.expected != OK][:2]:
        storage.write_atomically(*storage.resolve(f"{uri}/bad/{bad.name}"), bad.data)


@pytest.mark.slow
def test_photographs_to_masks_killed_half_way_and_resumed(s3: str, ray_local: None, tracking: TrackingConfig) -> None:
    put_photographs(f"{s3}/raw")
    uri = f"{s3}/collections/photos"
    settings = IngestConfig(collection=uri, source=SourceConfig(path=f"{s3}/raw"), part_size=PART_SIZE)
    found = ingest.run(replace(settings, tracking=tracking))
    assert (found.counts["usable"], found.counts["quarantined"]) == (PHOTOGRAPHS, 2)
    collection = Collection.open(uri)
    parts = collection.part_names()
    assert len(parts) == (PHOTOGRAPHS + 2) // PART_SIZE

    masks = f"{uri}/masks/saliency"
    command = [sys.executable, "-m", "pipelines.pseudomask", "--collection", uri, "--workers", "1"]
    # A process group of its own: the kill takes driver, Ray and workers at once, as a power cut would.
    first = subprocess.Popen(
        [*command, "--tracking.uri", str(tracking.uri)], start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 180
    while len(names_in(masks)) < 2:
        assert first.poll() is None, "the job ended before it could be killed"
        assert time.monotonic() < deadline, "no part was written in three minutes"
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    bucket, prefix = masks.removeprefix("s3://").split("/", 1)

    def written() -> dict[str, object]:
        listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/part-")["Contents"]
        return {entry["Key"]: (entry["ETag"], entry["LastModified"]) for entry in listed}

    before: dict[str, object] = {}
    while written() != before:  # Ray's workers notice the death of their driver a moment later
        before = written()
        time.sleep(3)
    assert 2 <= len(before) < len(parts), "the job was killed too late to be half done"

    resumed = pseudomask.run(PseudomaskJobConfig(collection=uri, tracking=tracking))
    assert resumed.counts["parts kept"] == len(before)
    after = written()
    assert {key: after[key] for key in before} == before, "a finished part was written again"
    assert len(after) == len(parts)
    made = collection.mask_set("saliency")
    rows = [row for part in parts for row in made.read_part(part).to_pylist()]
    assert [row["image_id"] for row in rows] == [i for ids in collection.image_ids().values() for i in ids]
    assert len({row["image_id"] for row in rows}) == PHOTOGRAPHS + 2
    assert sum(row["error"] is not None for row in rows) == 2
    assert set(rows[0]) == set(MASK_SCHEMA.names)
    assert {f"report-default{ending}" for ending in (".json", ".md", "-best.png")} <= set(
        storage.list_names(*storage.resolve(made.metadata_uri))
    )
    assert 0 < len(made.read_acceptance("default").accepted) <= 0.65 * PHOTOGRAPHS + 1


@pytest.fixture
def requests(s3: str, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What the object store is asked, by method."""
    asked: Counter[str] = Counter()
    monkeypatch.setattr(WSGIRequestHandler, "log_request", lambda self, *_: asked.update([self.command]))
    return asked


def take(asked: Counter[str]) -> tuple[int, int]:
    """Requests that read and requests that write since the last time."""
    found = asked["GET"] + asked["HEAD"], asked["PUT"] + asked["POST"]
    asked.clear()
    return found


def test_the_plan_knows_the_requests_of_a_part(s3: str, requests: Counter[str]) -> None:
    for number in range(6):
        storage.write_atomically(*storage.resolve(f"{s3}/raw/{number}.jpg"), encoded("JPEG", picture((40, 48))))
    started = start_ingest(f"{s3}/c", SourceConfig(path=f"{s3}/raw"), part_size=3)
    take(requests)
    ingest_part(started.collection.uri, started.parts[0])
    reads = fleet_limits.INGEST_READS_PER_PART + 3 * fleet_limits.INGEST_READS_PER_IMAGE
    assert take(requests) == (reads, 2 + fleet_limits.HASH_WRITES_PER_PART)
    started.collection.create_mask_set("saliency", config_hash="0" * 16, provenance={})
    take(requests)
    pseudomask_part(started.collection.uri, "saliency", started.parts[0], SaliencyConfig())
    assert take(requests) == (fleet_limits.READS_PER_PART, 2)


@pytest.mark.parametrize("megabytes", [8, 12, 25])
def test_the_plan_knows_the_requests_of_a_large_part(s3: str, requests: Counter[str], megabytes: int) -> None:
    collection = Collection.create(f"{s3}/c", name="c", source="test")
    size = megabytes * 2**20
    table = image_table([{"image_id": "a", "uri": "a", "image": bytes(size)}])
    take(requests)
    collection.write_part("part-00000", table)
    assert take(requests) == (0, fleet_limits.requests_to_write(size))
