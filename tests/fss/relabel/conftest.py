"""What the tests of relabelling share."""

import pytest

from fss.models import FewShotSegmenter, SegmenterConfig, build_segmenter


@pytest.fixture(scope="session")
def segmenter() -> FewShotSegmenter:
    """A random network that runs in milliseconds."""
    return build_segmenter(SegmenterConfig(backbone="resnet18", image_size=96, width=32)).eval()
