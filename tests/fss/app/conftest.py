"""Photographs and a segmenter for the page of `fss app`."""

import pytest

from fss.inference.predictor import Predictor
from tests.helpers.app_photographs import paint_photographs, small_segmenter


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of four photographs of a red disc, one of none, and one that is damaged."""
    root = tmp_path_factory.mktemp("photographs")
    paint_photographs(root)
    return str(root)


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return Predictor(small_segmenter())
