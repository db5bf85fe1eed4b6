"""The published networks, reproduced: reference logits for weights and inputs made by rule."""

import numpy as np
import pytest
import torch

from fss.models import load_published
from tests.helpers.published_rule import GOLDEN, golden_files, inputs_by_rule, published_state, read_golden

FILES = golden_files()


def test_reference_outputs_are_there():
    if not FILES:
        pytest.skip(f"no reference outputs at {GOLDEN}: set FSS_SHARED_GOLDEN to check the networks against them")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_reproduces_the_published_network(path):
    golden = read_golden(path)
    segmenter = load_published(
        published_state(golden),
        learner=golden["arch"],
        masking=golden["masking"],
        backbone=golden["backbone"],
        benchmark=golden["benchmark"],
    )
    assert sum(p.numel() for p in segmenter.learner.parameters()) == golden["trainable"]
    query, supports, masks = inputs_by_rule(golden["seed"], golden["shots"], golden["size"])
    prediction = segmenter.predict(query, supports, masks, "vote_published")
    assert ["".join(map(str, row)) for row in prediction[0, ::8, ::8].tolist()] == golden["pred_every8"]
    if golden["shots"] == 1:
        with torch.no_grad():
            logits = segmenter(query, supports, masks)[0, :, ::16, ::16].numpy()
        expected = np.array(golden["logits_every16"])
        difference, largest = np.abs(logits - expected).max(), np.abs(expected).max()
        print(f"{path.stem}: {difference:.2e} of {largest:.3g}: {difference / largest:.1e}")
        assert difference <= 1e-5 * largest
