"""Small reference outputs of our own, so that a change of the arithmetic shows without the published references.

Weights and inputs are made by rule (published_rule.py). After a change that is meant:
``python tests/fss/models/test_regression.py --write`` and say why in the commit.
"""

import json
import sys
from pathlib import Path

import pytest
import torch

from fss.models import create_segmenter
from tests.helpers.published_rule import inputs_by_rule, weights_by_rule

REFERENCE = Path(__file__).with_name("regression.json")
CASES = {
    "masksplit-none": {"learner": "masksplit", "masking": "none"},
    "hsnet-feature": {"learner": "hsnet", "masking": "feature"},
    "hsnet-hybrid": {"learner": "hsnet", "masking": "hybrid"},
    "asnet-none": {"learner": "asnet", "masking": "none"},
    "asnet-hybrid": {"learner": "asnet", "masking": "hybrid"},
    "vat-feature": {"learner": "vat", "masking": "feature"},
    "vat-hybrid-fss": {"learner": "vat", "masking": "hybrid", "benchmark": "fss"},
}


def sample(name: str) -> list[float]:
    """Return 16 logits of a 128-pixel episode on a ResNet-18 with two shots."""
    segmenter = create_segmenter(**CASES[name], backbone="resnet18", image_size=128, frozen=True).eval()
    shapes = {k: tuple(v.shape) for k, v in segmenter.state_dict().items() if v.is_floating_point()}
    segmenter.load_state_dict(weights_by_rule(shapes, 11), strict=False)
    query, supports, masks = inputs_by_rule(11, 2, 128)
    with torch.no_grad():
        return segmenter(query, supports, masks)[0, :, 20::40, 20::40].flatten()[:16].tolist()


@pytest.mark.parametrize("name", CASES)
def test_logits_stay(name):
    expected = torch.tensor(json.loads(REFERENCE.read_text())[name])
    assert (torch.tensor(sample(name)) - expected).abs().max() < 1e-4 * expected.abs().max()


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    REFERENCE.write_text(json.dumps({name: [round(v, 6) for v in sample(name)] for name in CASES}, indent=1) + "\n")
