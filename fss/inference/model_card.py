"""The model card of a trained segmenter: its data, settings, metrics and limits, from its JSON and its MLflow run."""

from collections.abc import Iterator, Mapping
from typing import Any

from fss.core.console import text_table
from fss.inference.painted import painted_model_note

CARD = "README.md"
_HEAD = """---
library_name: fss
pipeline_tag: image-segmentation
tags: [few-shot-segmentation]
# license: fill in the licence of the weights, such as mit, before you publish the model
---
# {title}

Segments an object in photographs, given one or a few photographs in which it is marked.

    import fss

    predictor = fss.load_segmenter("{uri}")
    examples = predictor.examples(["cup.jpg"], ["cup-mask.png"])
    print(examples.predict("query.jpg").mask.shape)
"""
_LIMITS = """## Limits

- It finds the object that the examples show. An object unlike all training images may be missed.
- Objects that cover less than one per cent of an image are often missed at {size} px; `scales="adaptive"` helps.
- Metrics hold for the data named above and say little about other photographs. Evaluate on your own.
- It was not tested for decisions about people, medicine or safety.
"""


def model_card(uri: str, description: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """Return the card as Markdown with a YAML head; the licence is left for the user to fill in.

    Args:
        uri: address of the model, such as ``hf://user/name``.
        description: the JSON of its checkpoint.
        metrics: metrics of its run by name; may be empty.
    """
    settings = description["segmenter"]
    lines = [_HEAD.format(title=uri.rpartition("/")[2].partition("@")[0], uri=uri)]
    if warning := painted_model_note("This model", description, "train on photographs for real use."):
        lines.append(f"> **Warning.** {warning}\n")
    training = {name: value for name, value in description.get("training", {}).items() if name != "run_id"}
    data = {**description.get("training_data", {}), **description.get("data", {})}
    measured = {**_flat(training), **metrics}
    lines += _section("Data", data, "The checkpoint has no record of its training data.")
    lines += _section("Settings", settings, "")
    lines += _section(
        "Metrics", measured, "No metrics were recorded. Run `python -m pipelines.evaluate` on labelled images."
    )
    if run_id := description.get("training", {}).get("run_id"):
        lines.append(f"MLflow run of the training: `{run_id}`.\n")
    lines.append(_LIMITS.format(size=settings["image_size"]))
    lines.append(
        "## Licence\n\nNot stated yet: fill in `license` at the top of this file. Mind that of the training images.\n"
    )
    return "\n".join(lines)


def _section(title: str, values: Mapping[str, Any], empty: str) -> list[str]:
    rows = [(name, _text(value)) for name, value in _flat(values).items()]
    table = text_table(("name", "value"), rows, markdown=True) if rows else f"{empty}\n"
    return [f"## {title}\n", table]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under dotted names, without those that are None."""
    return dict(_pairs(values, prefix))


def _pairs(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _pairs(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
