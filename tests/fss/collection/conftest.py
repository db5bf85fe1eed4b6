from pathlib import Path

import pytest
from small_collection import fill

from fss.collection import Collection


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return fill(Collection.create(str(tmp_path / "c"), name="c", source="test", classes={7: "cat", 300: "dog"}))
