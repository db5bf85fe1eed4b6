"""MLflow for several machines: a server process, artifacts in an object store, a model served over HTTP."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from fss.images.decode import decode_image
from fss.inference.mlflow_model import example_request, log_model
from fss.models import create_segmenter, save_checkpoint
from fss.tracking.lifetime import end_on_exit, find_unfinished
from fss.tracking.lineage import logged_datasets
from fss.tracking.run import Run, tracking_client
from fss.tracking.system_metrics import monitor_system
from tests.helpers.http_process import BIN, WAIT_S, free_port, process

pytestmark = pytest.mark.slow


@pytest.fixture
def server(s3: str, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = [str(BIN / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", f"{s3}/mlflow"]
    endpoint = {"MLFLOW_S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"]}
    with process(*command, port=port, log=tmp_path / "server.log", **endpoint) as url:
        yield url


def writer(url: str, experiment: str, number: int) -> str:
    """Log as another machine would, in a process of its own."""
    return (
        "import numpy as np; from fss.tracking.run import Run; from fss.tracking.lifetime import end_on_exit\n"
        f"params, experiment = {{'n': {number}}}, {experiment!r}\n"
        f"with end_on_exit(Run.start('w{number}', uri={url!r}, experiment=experiment, params=params)) as run:\n"
        "    for step in range(5):\n"
        "        run.log_metrics({'loss': 1 / (step + 1)}, step=step)\n"
        f"    run.log_image('sheet.png', np.full((16, 16, 3), {number}, np.uint8))\n"
    )


def test_several_processes_write_to_a_server_and_pictures_lie_in_the_object_store(
    server: str, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    import mlflow

    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with end_on_exit(Run.start("sweep", uri=server, experiment="several", tags={"fss.key": "k"})) as run:
        again = find_unfinished("k", uri=server, experiment="several")
        assert again is not None
        assert again.run_id == run.run_id
        with monitor_system(run):
            jobs = [subprocess.Popen([sys.executable, "-c", writer(server, "several", n)]) for n in range(3)]
            assert [job.wait(timeout=WAIT_S) for job in jobs] == [0, 0, 0]
    client = tracking_client(server)
    found = client.search_runs([run.experiment_id], "attributes.run_name != 'sweep'")
    assert {one.info.run_name: one.info.status for one in found} == {f"w{n}": "FINISHED" for n in range(3)}
    for one in found:
        steps = [point.step for point in client.get_metric_history(one.info.run_id, "loss")]
        assert sorted(steps) == list(range(5))
    assert "system/cpu_utilization_percentage" in client.get_run(run.run_id).data.metrics
    objects = boto3.client("s3").list_objects_v2(Bucket=s3.removeprefix("s3://"))["Contents"]
    assert sum(each["Key"].endswith("sheet.png") for each in objects) == 3
    local = mlflow.artifacts.download_artifacts(
        run_id=found[0].info.run_id, artifact_path="sheet.png", tracking_uri=server, dst_path=str(tmp_path)
    )
    assert (decode_image(Path(local).read_bytes()) == int(found[0].data.params["n"])).all()
    assert logged_datasets(server, run.run_id) == []


def test_a_served_model_answers_a_request_with_a_mask(server: str, s3: str, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(create_segmenter(backbone="timm:test_resnet.r160_in1k", width=32), tmp_path / "m")
    with end_on_exit(Run.start("train", uri=server)) as run:
        model = log_model(run, checkpoint)
    port = free_port()
    command = [str(BIN / "mlflow"), "models", "serve", "--model-uri", model, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    request = {name: encode(values[0]) for name, values in example_request().items()}
    with process(*command, port=port, log=tmp_path / "serve.log", MLFLOW_TRACKING_URI=server) as url:
        answer = requests.post(f"{url}/invocations", json={"dataframe_records": [request]}, timeout=60)
    assert answer.status_code == 200, answer.text
    mask = decode_image(base64.b64decode(answer.json()["predictions"][0]["mask"]))
    assert mask.shape == (64, 64, 3)
    assert set(np.unique(mask)) <= {0, 255}


def encode(value: bytes | list[bytes]) -> str | list[str]:
    return (
        [base64.b64encode(each).decode() for each in value]
        if isinstance(value, list)
        else base64.b64encode(value).decode()
    )
