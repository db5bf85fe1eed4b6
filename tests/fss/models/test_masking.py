"""Masking strategies and the K-shot fusions."""

import pytest
import torch

from fss.models.masking import get_masking, mask_features
from fss.models.shot_fusion import check_fusion, fuse


def maps():
    generator = torch.Generator().manual_seed(0)
    plain, masked = torch.randn(2, 3, 8, 7, 7, generator=generator)[:, :2]
    mask = torch.zeros(2, 28, 28)
    mask[:, 5:16, 8:20] = 1
    return plain, masked, mask


def test_hybrid_takes_the_feature_where_it_is_positive_inside_the_object():
    plain, masked, mask = maps()
    merged = get_masking("hybrid").merge(plain, masked, mask)
    soft = torch.nn.functional.interpolate(mask[:, None], (7, 7), mode="bilinear", align_corners=True)
    assert torch.equal(merged, torch.where((plain > 0) & (soft > 0), plain * soft, masked))
    assert (merged < 0).any() and not torch.equal(merged, masked)


def test_the_simple_strategies():
    plain, masked, mask = maps()
    assert get_masking("none").merge(plain, masked, mask) is plain
    assert get_masking("input").merge(plain, masked, mask) is masked
    feature = get_masking("feature").merge(plain, masked, mask)
    assert torch.equal(feature, mask_features(plain, mask)) and (feature[..., 6, 6] == 0).all()
    with pytest.raises(ValueError, match="none, feature, input, hybrid"):
        get_masking("output")


def shot_logits(*decisions):
    """One image of one pixel per column; each row is a shot's decision."""
    votes = torch.tensor(decisions, dtype=torch.float32)
    return torch.stack([-votes, votes], 1)[None, :, :, None]


def test_the_published_vote_divides_by_the_largest_count_in_the_image():
    votes = shot_logits([1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0])
    assert fuse(votes, "vote_published").flatten().tolist() == [1, 0, 0, 0]  # largest 3: two votes are needed
    few = shot_logits([1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0])
    assert fuse(few, "vote_published").flatten().tolist() == [1, 1, 0, 0]  # largest 2: one vote is enough
    none = shot_logits([0, 0, 0, 0], [0, 0, 0, 0])
    assert fuse(none, "vote_published").sum() == 0


def test_two_doubting_shots_outweigh_a_sure_one():
    margins = torch.tensor([[9.0], [-2.0], [-2.0]])  # of the logits; their mean is positive
    logits = torch.stack([-margins / 2, margins / 2], 1)[None, :, :, None]
    assert fuse(logits, "mean_probability").item() == 0
    assert fuse(logits[:, :2], "mean_probability").item() == 1
    with pytest.raises(ValueError, match="mean_probability"):
        check_fusion("max")
