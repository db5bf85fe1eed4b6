"""What the whole suite shares."""

import itertools
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import hypothesis
import pytest

_BUCKETS = itertools.count()
LONG = ("tests/notebooks/", "tests/pipelines/", "tests/test_style.py")
"""Where the longest tests are."""
# Where other processes work too, the time of an example says nothing.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_unconfigure() -> None:
    """Delete temporary files of processes that the tests have killed."""
    from fss.core.temporary import delete_leftovers

    delete_leftovers()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest tests begin, so that no process of the suite waits at the end for the one that has them."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))  # a stable sort: files stay together


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo changes of the import path: a served model adds its copy of fss, which new processes would import."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an object store on this machine; it starts with the first test that needs it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of an empty bucket, with credentials and endpoint in the environment."""
    import boto3

    set_s3_environment(monkeypatch, s3_server)
    bucket = f"bucket-{next(_BUCKETS)}"
    boto3.client("s3", endpoint_url=s3_server).create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


@pytest.fixture(scope="session")
def ray_local(s3_server: str) -> Iterator[None]:
    """One small local Ray for the suite, whose workers reach the object store; it starts with the first need."""
    from pipelines.runtime.ray_session import ray_session

    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # workers keep the environment that Ray was started in
            set_s3_environment(patch, s3_server)
            stack.enter_context(ray_session(num_cpus=4))
        yield


def set_s3_environment(patch: pytest.MonkeyPatch, server: str) -> None:
    """Put endpoint and credentials into the environment."""
    patch.setenv("AWS_ENDPOINT_URL", server)
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
