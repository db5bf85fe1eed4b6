"""Models that learned from painted shapes say so when they are used on photographs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRAINING_DATA = "training_data"
"""Key of the record of the training data in the JSON of a checkpoint: ``painted``, and the number of ``images``."""


class PaintedModelWarning(UserWarning):
    """A model that was trained on painted shapes is used on other pictures."""


def painted_model_note(model: str | Path, description: Mapping[str, Any], advice: str) -> str | None:
    """Return one sentence if a model was trained on the painted sample; None for others and without a record.

    Args:
        model: name of the model.
        description: the JSON of its checkpoint.
        advice: what to do instead.
    """
    record = description.get(TRAINING_DATA)
    if not isinstance(record, Mapping) or record.get("painted") is not True:
        return None
    return (
        f"{model} was trained on {record.get('images')} painted pictures, not on photographs, so expect little of its "
        f"masks of photographs; {advice}"
    )
