"""Names of what a job makes: a wrong one is refused when the settings are built, before hours of work."""

from typing import Any

import pytest

from pipelines.masks.config import AcceptConfig, PseudomaskJobConfig, TrainSaliencyConfig
from pipelines.relabeling.config import RelabelJobConfig
from pipelines.self_training.config import SelfTrainConfig
from pipelines.training.config import TrainJobConfig
from pipelines.tuning.config import TuneJobConfig


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        (PseudomaskJobConfig, "acceptance"),
        (PseudomaskJobConfig, "output_mask_set"),
        (AcceptConfig, "acceptance"),
        (RelabelJobConfig, "output_acceptance"),
        (RelabelJobConfig, "output_mask_set"),
        (SelfTrainConfig, "output_mask_set"),
    ],
)
@pytest.mark.parametrize("name", ["Best", "../elsewhere", "a b", "x" * 65])
def test_a_wrong_name_of_masks_is_refused(config: Any, setting: str, name: str) -> None:
    config(**{setting: "best-2.x"})
    with pytest.raises(ValueError, match=rf"{setting}.* cannot be named .*; use up to 64 lower case letters"):
        config(**{setting: name})


@pytest.mark.parametrize("config", [TrainJobConfig, TrainSaliencyConfig, SelfTrainConfig, TuneJobConfig])
def test_a_name_of_a_training_is_a_folder_of_its_own(config: Any) -> None:
    for name in ("Fold 1", "a:b", "masksplit-0123", None):
        assert config(name=name).name == name
    # With --overwrite, the first would delete all trainings, and the last their checkpoints.
    for name in (".", "..", "../x", "/x", "a/b", "", "a\n", ".hidden", "ray"):
        with pytest.raises(ValueError, match="it names a subfolder of the output; give a name without slashes"):
            config(name=name)
