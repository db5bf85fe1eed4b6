"""The network shared by the relabelling tests."""

import pytest

from fss.models import FewShotSegmenter, SegmenterConfig
from tests.helpers.networks import from_equal_chances


@pytest.fixture(scope="session")
def segmenter() -> FewShotSegmenter:
    """Return a random network that runs in milliseconds and predicts some foreground."""
    return from_equal_chances(SegmenterConfig(backbone="resnet18", image_size=96, width=32), seed=4).eval()
