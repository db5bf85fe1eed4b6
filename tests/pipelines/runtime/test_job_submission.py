"""Jobs submitted to a Ray head of their own, by its command line and with a token, as people do to a cluster."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fss.collection import Collection
from fss.collection.schema import MASK_SCHEMA

ROOT = Path(__file__).parents[3]
PIPELINES = sorted(path.stem for path in (ROOT / "pipelines").glob("*.py") if path.stem != "__init__")
LOOPBACK = """import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 0x41))"""
"""Python that turns on the loopback device of a new network: SIOCSIFFLAGS with IFF_UP and IFF_RUNNING."""
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Head:
    """A running head: its job server, and the environment that knows the token."""

    address: str
    environment: dict[str, str]
    home: Path

    def ray(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``ray job ...`` from the repository's root."""
        words = (sys.executable, "-m", "ray.scripts.scripts", "job", words[0], f"--address={self.address}", *words[1:])
        return subprocess.run(words, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=600)

    def submit(self, *entrypoint: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Submit with the working directory as the package."""
        return self.ray("submit", "--working-dir=.", *options, "--", *entrypoint)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for_the_job_server(head: subprocess.Popen[bytes], url: str, token: str) -> None:
    """Submit a job that does nothing until it is taken: the server answers before the agent that starts jobs does."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/api/jobs/", data=b'{"entrypoint": "true"}', headers=headers)
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(request, timeout=30).close()
            return
        except OSError as error:
            assert head.poll() is None, "the head ended"
            assert time.monotonic() < deadline, f"the job server took no job in two minutes: {error}"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    home = tmp_path_factory.mktemp("head")
    token = home / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    port, logs = free_port(), f"/tmp/ray-head-{os.getpid()}"  # a socket's path must be short
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
    }
    words = ["start", "--head", "--block", "--port=0", f"--dashboard-port={port}", "--num-cpus=4", "--num-gpus=0"]
    words += [f"--ray-client-server-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0"]
    # The agent, which starts jobs, has one port everywhere unless told otherwise: the suite's own Ray has it.
    words += [f"--dashboard-agent-listen-port={free_port()}", "--object-store-memory=134217728", f"--temp-dir={logs}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *words],
        env=environment,
        start_new_session=True,
        stdout=(home / "head.log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_the_job_server(process, url, token.read_text())
        yield Head(url, environment, home)
    finally:
        process.terminate()  # alone: a head whose processes are gone waits long to say good-bye to them
        process.wait(60)
        shutil.rmtree(logs, ignore_errors=True)


def keeps_the_head_up(head: Head) -> bool:
    """Ask as infra/modules/ray_cluster/files/idle-shutdown.sh does, with its own pattern."""
    script = (ROOT / "infra/modules/ray_cluster/files/idle-shutdown.sh").read_text()
    pattern = re.search(r"grep -Eq '(.+)'", script)
    assert pattern is not None
    token = Path(head.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    request = urllib.request.Request(f"{head.address}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return re.search(pattern[1], answer.read().decode()) is not None


def test_the_job_server_answers_the_token_alone(head: Head) -> None:
    for token, code in ((None, 401), ("wrong" * 8, 403)):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"{head.address}/api/jobs/", headers=headers), timeout=10)
        assert refused.value.code == code


def test_the_package_travels_without_what_a_job_does_not_need(head: Head) -> None:
    code = "import fss, os, json; print('FOUND', json.dumps([fss.__file__, sorted(os.listdir('.'))]))"
    answer = head.submit("python", "-c", code)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    package, names = json.loads(re.search(r"FOUND (.*)", answer.stdout)[1])  # type: ignore[index]
    assert "working_dir_files" in package, "the job used an installed package, not the one it was sent with"
    assert {"fss", "pipelines", "pyproject.toml"} <= set(names)
    assert not {".git", ".venv", "tests", "infra", "notebooks", "runs", "mlruns", "mlflow.db"} & set(names)


def test_every_pipeline_starts_from_the_package(head: Head) -> None:
    lines = " && ".join(f"python -m pipelines.{name} --help > /dev/null && echo {name} starts" for name in PIPELINES)
    answer = head.submit("bash", "-c", lines)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert [name for name in PIPELINES if f"{name} starts" in answer.stdout] == PIPELINES


def test_the_session_of_the_readme(tmp_path: Path) -> None:
    """Every line of the session in pipelines/README.md; its job has a smaller sample and fewer steps.

    It runs among processes and in a network of its own, because its head takes Ray's usual ports, and ``ray stop``
    stops every Ray that it sees.
    """
    alone = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no process a network of its own (unshare)")
    session = (ROOT / "pipelines/README.md").read_text().split("## Submitting a job")[1].split("\n## ")[0]
    activate, *lines = re.findall(r"^    \$ ((?:.*\\\n)*.*)$", session, flags=re.MULTILINE)
    assert activate == "source .venv/bin/activate"
    small = "--sample.unlabelled 48 --sample.labelled 96 --steps 4 --checkpoint-every 2 --evaluate.episodes 8"
    job = next(line for line in lines if line.startswith("ray job submit "))
    lines[lines.index(job)] = f"{job} {small} --evaluate.skip-small-classes"
    logs = Path(f"/tmp/ray-session-{os.getpid()}")  # a socket's path must be short
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    environment |= {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_TMPDIR": str(logs),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    logs.mkdir()
    script = "\n".join(["set -eu", f"python -c '{LOOPBACK}'", *lines]).replace("$PWD", str(tmp_path))
    try:
        words = [*alone, "bash", "-c", script]
        ended = subprocess.run(
            words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
    finally:
        shutil.rmtree(logs, ignore_errors=True)
    said = re.sub(r"\x1b\[[0-9;]*m", "", ended.stdout)
    assert ended.returncode == 0, said + ended.stderr
    told = ("Local node IP: 127.0.0.1", "Ray runtime started.", "http://127.0.0.1:8265", "submitted successfully")
    for line in (*told, "parts, 48 images", "train] 4 steps, starting the workers", "' succeeded", "Stopped all "):
        assert line in said, said + ended.stderr
    summary = json.loads((tmp_path / "runs/submitted/summary.json").read_text())
    assert Path(summary["outputs"]["model"]).is_relative_to(tmp_path / "runs/submitted")
    assert Path(summary["outputs"]["results"], "table.json").exists()
    assert MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(summary["run_id"]).info.status == "FINISHED"


def test_a_failing_job_says_why(head: Head) -> None:
    answer = head.submit("python", "-m", "pipelines.pseudomask", "--collection", "/nowhere")
    assert answer.returncode != 0
    assert "pseudomask: error:" in answer.stdout
    assert "/nowhere" in answer.stdout
    assert "exit code 2" in answer.stdout + answer.stderr


def test_a_stopped_job_leaves_whole_parts_and_goes_on(head: Head, tmp_path: Path) -> None:
    uri = str(tmp_path / "collection")
    words = ["--collection", uri, "--source.kind", "sample", "--source.count", "400", "--part-size", "2"]
    made = head.submit("python", "-m", "pipelines.ingest", *words)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "400" in made.stdout, "the summary comes back"

    job = ("python", "-m", "pipelines.pseudomask", "--collection", uri, "--workers", "1")
    started = head.submit(*job, options=("--no-wait", "--submission-id=stopped"))
    assert started.returncode == 0, started.stdout + started.stderr
    masks = Path(uri) / "masks/saliency"
    deadline = time.monotonic() + 180
    while len(list(masks.glob("part-*.parquet"))) < 2:
        assert time.monotonic() < deadline, head.ray("logs", "stopped").stdout
        time.sleep(0.05)
    assert keeps_the_head_up(head), "the idle timer must see a job that runs"
    stopped = head.ray("stop", "stopped")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "Job 'stopped' was stopped" in head.ray("status", "stopped").stdout
    assert not keeps_the_head_up(head)

    collection = Collection.open(uri)
    kept = sorted(path.stem for path in masks.glob("part-*.parquet"))
    assert 2 <= len(kept) < len(collection.part_names()), "the job was stopped too late to be half done"
    for part in kept:
        ids = collection.read_part(part, ["image_id"])["image_id"].to_pylist()
        rows = collection.mask_set("saliency").read_part(part)
        assert rows["image_id"].to_pylist() == ids
        assert rows.column_names == MASK_SCHEMA.names

    again = head.submit(*job)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(rf"parts found finished\W+{len(kept)}\b", again.stdout), again.stdout
    assert len(list(masks.glob("part-*.parquet"))) == len(collection.part_names())
