"""The moving average against its definition, one tensor at a time."""

import pytest
import torch
from torch import nn

from fss.training.ema import Ema


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1).double())
    model[3].bias.requires_grad_(False)
    return model


@pytest.mark.parametrize("warm_up", [True, False])
def test_every_update_equals_the_plain_interpolation_bit_for_bit(warm_up: bool) -> None:
    model = network()
    ema = Ema(model, 0.97, warm_up=warm_up)
    expected = {name: value.clone() for name, value in ema.average.items()}
    assert set(expected) == set(model.state_dict()) - {"3.bias"}
    for update in range(1, 21):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
            model[1](torch.randn(2, 8, 4, 4))
        ema.decay = 0.9 if update > 10 else 0.97
        ema.update(model)
        decay = min(ema.decay, (1 + update) / (10 + update)) if warm_up else ema.decay
        for name, value in model.state_dict().items():
            if name == "3.bias":
                continue
            if value.is_floating_point():
                expected[name].lerp_(value, 1 - decay)
            else:
                expected[name] = value.clone()
            assert torch.equal(ema.average[name], expected[name]), (update, name)
    assert ema.average["1.num_batches_tracked"] == 20


def test_the_average_of_a_saved_training_is_taken_over() -> None:
    model = network()
    ema = Ema(model, 0.9)
    ema.update(model)
    saved = {"updates": 7, "average": {name: torch.ones_like(value) for name, value in ema.average.items()}}
    ema.load_state_dict(saved)
    assert ema.updates == 7
    assert all((value == 1).all() for value in ema.average.values())
    del saved["average"]["0.bias"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="belongs to another model"):
        ema.load_state_dict(saved)
