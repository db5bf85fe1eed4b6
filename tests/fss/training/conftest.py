"""Fixtures of the training tests."""

import pytest

from fss.collection import Collection, MaskSet
from tests.helpers.discs import noisy_collection


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Collection, MaskSet]:
    """45 images in 6 parts, 43 of them usable."""
    return noisy_collection(tmp_path_factory.mktemp("discs") / "collection", 45)
