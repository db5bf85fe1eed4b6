from pathlib import Path

import pytest

from fss.collection import Collection
from tests.helpers.discs import fill


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return fill(Collection.create(str(tmp_path / "c"), name="c", source="test", classes={7: "cat", 300: "dog"}))
