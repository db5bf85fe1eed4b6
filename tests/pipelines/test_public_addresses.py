"""Nothing that a job starts can be reached from another machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="sockets are read from Linux's /proc")

LISTENING = "0A"
JOB = """
import json, os, sys
sys.path.insert(0, {tests!r})
from test_public_addresses import listening
os.environ.pop("RAY_ADDRESS", None)
with ray_session(num_cpus=2):
    import ray
    ray.get(ray.remote(lambda: 1).remote())
    print(json.dumps(listening(os.getsid(0))))
"""


def listening(session: int) -> list[str]:
    """The addresses that processes of a login session listen on, as /proc writes them: hexadecimal, port after it."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING:
                sockets[f"socket:[{fields[9]}]"] = fields[1]
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) != session:
                continue
            found |= {sockets[link] for file in (process / "fd").iterdir() if (link := str(file.readlink())) in sockets}
        except OSError:
            continue  # it has ended meanwhile
    return sorted(found)


def is_local(address: str) -> bool:
    host = address.split(":")[0]
    return host in ("0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F")


def test_the_check_sees_a_public_socket() -> None:
    import socket

    with socket.create_server(("0.0.0.0", 0)) as public, socket.create_server(("127.0.0.1", 0)) as local:
        found = {address.split(":")[1]: is_local(address) for address in listening(os.getsid(0))}
        assert found[f"{public.getsockname()[1]:04X}"] is False
        assert found[f"{local.getsockname()[1]:04X}"] is True


def test_a_local_ray_listens_on_this_machine_alone() -> None:
    code = JOB.format(tests=str(Path(__file__).parent))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, start_new_session=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found, "Ray listens on nothing at all?"
    assert [address for address in found if not is_local(address)] == []
