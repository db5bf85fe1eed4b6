"""Nothing that a job starts can be reached from another machine."""

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="sockets are read from Linux's /proc")

LISTENING = "0A"
LOCAL = ("0100007F", f"{0:024X}01000000", "0000000000000000FFFF00000100007F")
JOB = """
import sys, time
from pipelines.runtime.ray_session import ray_session
with ray_session(num_cpus=2):
    import ray
    work = ray.remote(lambda: time.sleep(1))
    ray.get(work.remote())
    print("started", flush=True)
    sys.stdin.readline()
"""

TRAINING = """
import sys, threading, time
from pipelines.runtime.ray_session import ray_session
from pipelines.runtime.ray_train import ScaleConfig, fit

def worker(settings):
    import ray.train, torch
    from pathlib import Path
    total = torch.tensor(float(ray.train.get_context().get_world_rank() + 1))
    torch.distributed.all_reduce(total)
    Path(settings["place"], f"there-{ray.train.get_context().get_world_rank()}").write_text(str(total.item()))
    while not Path(settings["place"], "end").exists():
        time.sleep(0.1)

with ray_session(num_cpus=4):
    from pathlib import Path
    place = Path(sys.argv[1])
    def train():
        fit(worker, {"place": sys.argv[1]}, name="two", storage_uri=sys.argv[1] + "/runs",
                         scale=ScaleConfig(workers=2), score="score")
    thread = threading.Thread(target=train)
    thread.start()
    while len(list(place.glob("there-*"))) < 2 and thread.is_alive():
        time.sleep(0.1)
    print("started", flush=True)
    sys.stdin.readline()
    (place / "end").touch()
    thread.join()
"""


def listening(mark: str) -> list[str]:
    """The addresses that processes with a mark in their environment listen on, as /proc writes them, in hexadecimal."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING:
                sockets[f"socket:[{fields[9]}]"] = fields[1]
    return sorted({sockets[link] for link in _open_files(mark.encode()) if link in sockets})


def _open_files(mark: bytes) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is not ours
            if mark in (process / "environ").read_bytes():
                for file in (process / "fd").iterdir():
                    with suppress(OSError):
                        yield str(file.readlink())


def start(code: str, mark: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a program with the mark, and wait for its first line."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[3]), "FSS_TEST_MARK": mark}
    pipe = subprocess.PIPE
    job = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=pipe, stdout=pipe, env=environment, text=True
    )
    assert job.stdout is not None
    assert job.stdout.readline().strip() == "started"
    return job


def test_the_check_sees_public_and_local_sockets() -> None:
    mark, code = uuid.uuid4().hex, "import socket, sys\n"
    code += "s = [socket.create_server((host, 0)) for host in ('0.0.0.0', '127.0.0.1')]\n"
    with start(f"{code}print('started', flush=True); sys.stdin.readline()", mark) as job:
        found = [address.split(":")[0] for address in listening(mark)]
        job.communicate("\n")
    assert sorted(host in LOCAL for host in found) == [False, True]
    assert socket.inet_aton("127.0.0.1")[::-1].hex().upper() in LOCAL


@pytest.mark.slow
def test_a_local_ray_listens_on_this_machine_alone() -> None:
    mark = uuid.uuid4().hex
    with start(JOB, mark) as job:
        found = listening(mark)
        job.communicate("\n")
    assert job.returncode == 0
    assert found, "Ray listens on nothing at all?"
    assert [address for address in found if address.split(":")[0] not in LOCAL] == []


@pytest.mark.slow
def test_training_workers_of_one_machine_listen_on_it_alone(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    with start(TRAINING, mark, str(tmp_path)) as job:
        found = listening(mark)
        job.communicate("\n")
    assert job.returncode == 0
    assert [place.read_text() for place in tmp_path.glob("there-*")] == ["3.0", "3.0"], "they add up 1 and 2"
    assert [address for address in found if address.split(":")[0] not in LOCAL] == []
