"""What the whole suite shares."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One small local Ray for the suite; it starts with the first test that needs it."""
    from pipelines.common.ray_session import ray_session

    with ray_session(num_cpus=4):
        yield
