"""Trace a model to its run, its masks, the origin of these masks, and the photographs.

    python -m pipelines.lineage --model runs/<name>/model
    python -m pipelines.lineage --model models:/fss@champion --photographs used.csv

The job reads the checkpoint, the tracking store and the collections. It marks mask sets and collections that have
changed since the training.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fss.core import storage
from fss.core.config import settings
from fss.core.flags import check_required
from fss.tracking.delivery import Delivery, NotYetError
from fss.tracking.run import PARENT_TAG, tracking_client, tracking_uri
from fss.tracking.store import require_store
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.config import RequiredText, TrackingConfig
from pipelines.runtime.result import JobResult, read_result

if TYPE_CHECKING:
    from fss.collection import Collection, MaskSet
    from fss.tracking.lineage import LoggedDataset
    from pipelines.runtime.model_source import ModelSource

JOB = "lineage"
CLOSED = "cannot be opened"
"""Name of the reason in the details of an origin that is gone or damaged."""
HELP = {"model": ("model", "photographs", "tracking.uri")}
"""Flags of the short help."""
RUN_TAGS = ("fss.job", "mlflow.source.git.commit", "fss.python", "fss.torch", "fss.platform", "fss.gpu")


@settings
class LineageConfig:
    """Settings of the lineage command."""

    model: RequiredText = ""
    """Model to trace: folder of a checkpoint (local or s3:// URI), or models:/..., runs:/<run>/model of MLflow."""
    photographs: Path | None = None
    """CSV file to write: image_id and uri of every photograph that the model was trained on."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Store with the run of the model."""


@dataclass(kw_only=True)
class Node:
    """A node of the lineage, such as a model, run or mask set, with its origins."""

    title: str
    """Kind and name of the node."""
    details: dict[str, Any] = field(default_factory=dict)
    """Hashes, settings and states by name."""
    origins: list[Node] = field(default_factory=list)
    """Nodes that this one was made from."""
    photographs: MaskSet | None = None
    """Mask set of the photographs, if the node is a data set."""
    acceptance: str | None = None
    """Acceptance of the photographs. None: all."""

    def lines(self, depth: int = 0) -> Iterator[str]:
        """Yield the tree as indented text."""
        indent = "    " * depth
        yield f"{indent}{self.title}"
        for name, value in self.details.items():
            yield f"{indent}  {name}: {value}"
        for origin in self.origins:
            yield from origin.lines(depth + 1)

    def walk(self) -> Iterator[Node]:
        """Yield this node and all its origins, recursively."""
        yield self
        for origin in self.origins:
            yield from origin.walk()


def run(config: LineageConfig) -> JobResult:
    """Trace a model, and list the photographs that it was trained on.

    Raises:
        ValueError: there is no such model, or ``photographs`` is set and none can be listed.
    """
    check_required(config)
    if config.photographs is not None:
        storage.check_file_writable(config.photographs)
    model = trace(config.model, tracking=tracking_uri(config.tracking.uri))
    trained_on = [node for node in model.walk() if node.photographs and node.title.startswith("training")]
    rows = {row for node in trained_on if node.photographs for row in photographs(node.photographs, node.acceptance)}
    result = JobResult(job=JOB, inputs={"model": config.model}, report="\n".join(model.lines()) + "\n")
    result.counts = {"photographs": len(rows)}
    if config.photographs is not None:
        if not rows:
            raise ValueError(f"the photographs of {config.model} cannot be listed; leave --photographs out to see why")
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("image_id", "uri"), *sorted(rows)])
        data = text.getvalue().encode(errors="backslashreplace")  # names may be no valid Unicode
        storage.write_atomically(*storage.resolve(config.photographs), data)
        result.outputs = {"photographs": str(config.photographs)}
    return result


def trace(uri: str, *, tracking: str) -> Node:
    """Return the lineage of a model.

    Args:
        uri: folder of a checkpoint, or models:/ or runs:/ of MLflow.
        tracking: URI of the store with the run of the model.

    Raises:
        ValueError: there is no such model, or it is a published file, which has no lineage.
    """
    from fss.models.checkpoint import read_description
    from pipelines.runtime.checkpoints import checkpoint_hash
    from pipelines.runtime.model_source import model_source, opened

    source = model_source(uri, tracking=tracking)
    with opened(source) as folder:
        description, weights = read_description(folder), checkpoint_hash(folder)
    network, training = description["segmenter"], description.get("training", {})
    details = {
        "weights": weights,
        "network": f"{network['learner']} on {network['backbone']}, {network['image_size']} px",
    }
    details |= {"step of the kept model": training["step"]} if "step" in training else {}
    node = Node(title=f"model {uri}", details=details | _registered(source, tracking))
    if "run_id" in training:
        node.origins.append(_run_node(training["run_id"], tracking))
    else:
        node.details["run"] = "the checkpoint has no run id"
    return node


def photographs(masks: MaskSet, acceptance: str | None) -> Iterator[tuple[str, str]]:
    """Yield the id and URI of every usable photograph of a mask set."""
    accepted = masks.read_acceptance(acceptance).accepted if acceptance else None
    for part in masks.collection.part_names():
        table = masks.collection.read_part(part, ["image_id", "uri", "error"])
        for row in table.to_pylist():
            if not row["error"] and (accepted is None or row["image_id"] in accepted):
                yield row["image_id"], row["uri"]


def _run_node(run_id: str, tracking: str) -> Node:
    """Return the node of an MLflow run, with its inputs as origins."""
    from mlflow.exceptions import MlflowException

    from fss.tracking.lineage import logged_datasets

    try:
        require_store(tracking)
    except ValueError as error:
        return Node(title=f"run {run_id}", details={"missing": str(error)})
    delivery = Delivery(tracking)
    try:
        run_id = delivery.run_id(run_id)
        mlflow_run = delivery.client.get_run(run_id)
    except (MlflowException, NotYetError):
        return Node(title=f"run {run_id}", details={"missing": f"not in {tracking}"})
    tags, info = mlflow_run.data.tags, mlflow_run.info
    details = {"started": datetime.fromtimestamp(info.start_time / 1000, UTC).isoformat(timespec="seconds")}
    details |= {name.removeprefix("fss."): tags[name] for name in RUN_TAGS if name in tags}
    if PARENT_TAG in tags:
        details["part of run"] = tags[PARENT_TAG]
    origins = [_data_node(use, tracking) for use in logged_datasets(tracking, run_id)]
    return Node(title=f"run {run_id} ({info.run_name}, {info.status})", details=details, origins=origins)


def _data_node(use: LoggedDataset, tracking: str) -> Node:
    """Return the node of an input of a run, compared with its current state."""
    from fss.collection import Collection

    node = Node(title=f"{use.context}: {use.name}", details={"at": use.uri, "digest": use.digest})
    try:
        collection = Collection.open(use.uri)
        masks = collection.mask_set(use.profile["mask_set"]) if "mask_set" in use.profile else None
    except ValueError as error:
        node.details[CLOSED] = error
        return node
    if masks is not None:
        origin = _origin(f"mask set {masks.name}", partial(_mask_node, masks, use.profile, tracking))
        node.origins.append(origin)
        if CLOSED not in origin.details:
            node.photographs, node.acceptance = masks, use.profile.get("acceptance")
    node.origins.append(_collection_node(collection, use.profile["collection"]))
    return node


def _mask_node(masks: MaskSet, profile: dict[str, Any], tracking: str) -> Node:
    """Return the node of a mask set with its origins; those of a relabelled set include the model and its lineage."""
    provenance = masks.provenance
    details = {"hash": _then_and_today(profile.get("mask_set_hash", masks.config_hash), masks.config_hash)}
    if "contents" in profile:
        details["contents"] = _then_and_today(profile["contents"], masks.contents())
    details |= {"method": provenance.get("method", "unknown")}
    details |= {"settings": json.dumps(provenance["config"])} if "config" in provenance else {}
    if profile.get("acceptance"):
        accepted = masks.read_acceptance(profile["acceptance"])
        details["acceptance"] = f"{accepted.name}, {len(accepted.accepted)} masks by {json.dumps(accepted.rule)}"
        details["acceptance hash"] = _then_and_today(profile.get("acceptance_hash", accepted.hash), accepted.hash)
    node = Node(title=f"mask set {masks.name}", details=details)
    result = read_result(masks.metadata_uri) or read_result(masks.uri)  # format 1 had it beside the masks
    if result and result.get("run_id"):
        node.origins.append(_run_node(result["run_id"], tracking))
    if provenance.get("method") == "relabel":
        checkpoint, source = provenance["checkpoint"], provenance["source"]
        node.origins.append(_origin(f"model {checkpoint}", lambda: trace(checkpoint, tracking=tracking)))
        node.origins.append(
            _origin(f"mask set {source}", lambda: _mask_node(masks.collection.mask_set(source), {}, tracking))
        )
    return node


def _origin(title: str, open_node: Callable[[], Node]) -> Node:
    """Return an origin; if it is gone or damaged, a node that says so, and the rest is traced all the same."""
    try:
        return open_node()
    except (ValueError, OSError) as error:
        return Node(title=title, details={CLOSED: error})


def _collection_node(collection: Collection, fingerprint: str) -> Node:
    """Return the node of a collection with the sources of its photographs."""
    details: dict[str, Any] = {"fingerprint": _then_and_today(fingerprint, collection.fingerprint())}
    for number, entry in enumerate(collection.metadata["sources"], start=1):
        if "source" in entry:
            path = entry["source"]["path"] or "the painted sample"
            details[f"source {number}"] = f"{entry['items']} photographs of {path}"
        else:  # of a collection that a program made
            details[f"source {number}"] = json.dumps(entry)
    details["unusable"] = collection.quarantine().num_rows
    return Node(title=f"collection {collection.uri}", details=details)


def _then_and_today(then: str, today: str) -> str:
    return today if then == today else f"{then} then, {today} now: IT HAS CHANGED SINCE"


def _registered(source: ModelSource, tracking: str) -> dict[str, Any]:
    """Return the version and tags of a model URI with an alias."""
    name, at, alias = source.uri.removeprefix("models:/").partition("@")
    if source.kind != "mlflow" or not at:
        return {}
    version = tracking_client(tracking).get_model_version_by_alias(name, alias)
    return {"version": version.version} | {key.removeprefix("fss."): value for key, value in version.tags.items()}


def main() -> None:
    """Run from the command line."""
    cli_main(LineageConfig, run, job=JOB, description=str(__doc__), common=HELP)


if __name__ == "__main__":
    main()
