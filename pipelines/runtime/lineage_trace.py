"""Follow a model back: its run, the masks it learned from, what made these, and the photographs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlflow.exceptions import MlflowException

from fss.collection import Collection, MaskSet
from fss.models.checkpoint import read_description
from fss.tracking.lineage import LoggedDataset, logged_datasets
from fss.tracking.run import PARENT_TAG, tracking_client
from pipelines.runtime.checkpoints import checkpoint_hash
from pipelines.runtime.model_source import ModelSource, model_source, opened
from pipelines.runtime.result import read_result

_SHOWN = ("fss.job", "mlflow.source.git.commit", "fss.python", "fss.torch", "fss.platform", "fss.gpu")


@dataclass
class Node:
    """One thing in the lineage, and what it came from."""

    title: str
    """What it is."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What is known of it."""
    origins: list["Node"] = field(default_factory=list)
    """What it was made from."""
    photographs: MaskSet | None = None
    """Where the photographs are found, of what was trained on."""
    acceptance: str | None = None
    """Which of them were used; None: all."""

    def lines(self, depth: int = 0) -> Iterator[str]:
        """Yield the tree as indented text."""
        indent = "    " * depth
        yield f"{indent}{self.title}"
        for name, value in self.facts.items():
            yield f"{indent}  {name}: {value}"
        for origin in self.origins:
            yield from origin.lines(depth + 1)

    def walk(self) -> Iterator["Node"]:
        """Yield this and everything it came from."""
        yield self
        for origin in self.origins:
            yield from origin.walk()


def trace(uri: str, *, tracking: str) -> Node:
    """Return the lineage of a model.

    Args:
        uri: folder of a checkpoint, or models:/ or runs:/ of MLflow.
        tracking: the store that has its run.

    Raises:
        ValueError: there is no such model, or it is a published file, which doesn't say what it came from.
    """
    source = model_source(uri, tracking=tracking)
    with opened(source) as place:
        description, weights = read_description(place), checkpoint_hash(place)
    network, training = description["segmenter"], description.get("training", {})
    facts = {
        "weights": weights,
        "network": f"{network['learner']} on {network['backbone']}, {network['image_size']} px",
    }
    facts |= {"kept step": training["step"]} if "step" in training else {}
    node = Node(f"model {uri}", facts | _registered(source, tracking))
    if "run_id" in training:
        node.origins.append(run_node(training["run_id"], tracking))
    else:
        node.facts["run"] = "the checkpoint does not say which run made it"
    return node


def run_node(run_id: str, tracking: str) -> Node:
    """Return a run with everything that it read."""
    try:
        found = tracking_client(tracking).get_run(run_id)
    except MlflowException:
        return Node(f"run {run_id}", {"missing": f"not in {tracking}"})
    tags = found.data.tags
    facts = {"started": datetime.fromtimestamp(found.info.start_time / 1000, UTC).isoformat(timespec="seconds")}
    facts |= {name.removeprefix("fss."): tags[name] for name in _SHOWN if name in tags}
    if PARENT_TAG in tags:
        facts["part of run"] = tags[PARENT_TAG]
    node = Node(f"run {run_id} ({found.info.run_name}, {found.info.status})", facts)
    node.origins = [data_node(use, tracking) for use in logged_datasets(tracking, run_id)]
    return node


def data_node(use: LoggedDataset, tracking: str) -> Node:
    """Return a dataset of a run: what it was then, and whether it still is."""
    node = Node(f"{use.context}: {use.name}", {"at": use.uri, "digest": use.digest})
    try:
        collection = Collection.open(use.uri)
        masks = collection.mask_set(use.profile["mask_set"]) if "mask_set" in use.profile else None
    except ValueError as error:
        node.facts["cannot be opened"] = error
        return node
    if masks is not None:
        node.origins.append(mask_node(masks, use.profile, tracking))
        node.photographs, node.acceptance = masks, use.profile.get("acceptance")
    node.origins.append(collection_node(collection, use.profile["collection"]))
    return node


def mask_node(masks: MaskSet, profile: dict[str, Any], tracking: str) -> Node:
    """Return a mask set with what made it; a relabelled one leads to the model that made it."""
    provenance = masks.provenance
    facts = {"hash": _then_and_now(profile.get("mask_set_hash", masks.config_hash), masks.config_hash)}
    facts |= {"method": provenance.get("method", "unknown")}
    facts |= {"settings": json.dumps(provenance["config"])} if "config" in provenance else {}
    if profile.get("acceptance"):
        accepted = masks.read_acceptance(profile["acceptance"])
        facts["acceptance"] = f"{accepted.name}, {len(accepted.accepted)} masks by {json.dumps(accepted.rule)}"
        facts["acceptance hash"] = _then_and_now(profile.get("acceptance_hash", accepted.hash), accepted.hash)
    node = Node(f"mask set {masks.name}", facts)
    made = read_result(masks.uri)
    if made and made.get("run_id"):
        node.origins.append(run_node(made["run_id"], tracking))
    if provenance.get("method") == "relabel":
        node.origins.append(trace(provenance["checkpoint"], tracking=tracking))
        node.origins.append(mask_node(masks.collection.mask_set(provenance["source"]), {}, tracking))
    return node


def collection_node(collection: Collection, fingerprint: str) -> Node:
    """Return a collection with the places its photographs came from."""
    facts: dict[str, Any] = {"fingerprint": _then_and_now(fingerprint, collection.fingerprint())}
    for number, record in enumerate(collection.metadata["sources"], start=1):
        source = record["source"]
        facts[f"source {number}"] = f"{record['items']} photographs of {source['path'] or 'the painted sample'}"
    facts["unusable"] = collection.quarantine().num_rows
    return Node(f"collection {collection.uri}", facts)


def photographs(masks: MaskSet, acceptance: str | None) -> Iterator[tuple[str, str]]:
    """Yield id and place of every photograph that a training could use."""
    accepted = masks.read_acceptance(acceptance).accepted if acceptance else None
    for part in masks.collection.part_names():
        table = masks.collection.read_part(part, ["image_id", "uri", "error"])
        for row in table.to_pylist():
            if not row["error"] and (accepted is None or row["image_id"] in accepted):
                yield row["image_id"], row["uri"]


def _then_and_now(then: str, now: str) -> str:
    return now if then == now else f"{then} then, {now} now: IT HAS CHANGED SINCE"


def _registered(source: ModelSource, tracking: str) -> dict[str, Any]:
    """Return the registered version that a models:/ URI names."""
    name, at, alias = source.uri.removeprefix("models:/").partition("@")
    if source.kind != "mlflow" or not at:
        return {}
    version = tracking_client(tracking).get_model_version_by_alias(name, alias)
    return {"version": version.version} | {key.removeprefix("fss."): value for key, value in version.tags.items()}
