"""What a run reads, as datasets of MLflow's: so that a model leads back to its photographs.

A dataset is a collection, or a mask set of one. Its digest is the content's hash; the profile says the rest in plain
values. ``pipelines.lineage`` reads it back.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fss.collection import Collection, MaskSet
from fss.core.redaction import redact_passwords
from fss.tracking.run import Run, tracking_client

_CONTEXT = "mlflow.data.context"


@dataclass(frozen=True, kw_only=True)
class LoggedDataset:
    """A dataset of a run."""

    name: str
    """The collection's name, with the mask set's."""
    uri: str
    """The collection; a private run has not said where it is."""
    digest: str
    """Hash of what was there when the run read it."""
    context: str
    """What for: training, validation, evaluation, pseudo-masks, ..."""
    profile: dict[str, Any]
    """Counts and hashes."""


def log_dataset(
    run: Run,
    data: Collection | MaskSet,
    *,
    context: str,
    fingerprint: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Log what a run reads.

    Args:
        run: the run.
        data: a collection, or a mask set with its collection.
        context: what for.
        fingerprint: the collection's, where it is known already.
        details: further plain values for the profile.
    """
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset, DatasetInput, InputTag

    collection = data.collection if isinstance(data, MaskSet) else data
    name, digest = collection.name, fingerprint or collection.fingerprint()
    profile: dict[str, Any] = {"collection": digest, **(details or {})}
    if isinstance(data, MaskSet):
        name, digest = f"{name}/{data.name}", f"{digest}-{data.config_hash}"
        profile |= {"mask_set": data.name, "mask_set_hash": data.config_hash}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a folder is a local artifact in two ways, says MLflow
        source = resolve_dataset_source(str(run.redact(redact_passwords(collection.uri), "uri")))
    dataset = MetaDataset(source, name=str(run.redact(name, "collection")), digest=digest)  # type: ignore[abstract]
    entity = Dataset(**dataset.to_dict() | {"profile": json.dumps(run.redact(profile))})
    tracking_client(run.uri).log_inputs(run.run_id, [DatasetInput(entity, [InputTag(_CONTEXT, context)])])


def logged_datasets(uri: str, run_id: str) -> list[LoggedDataset]:
    """Return the datasets of a run in a tracking store."""
    found = []
    for entry in tracking_client(uri).get_run(run_id).inputs.dataset_inputs:
        tags = {tag.key: tag.value for tag in entry.tags}
        found.append(
            LoggedDataset(
                name=entry.dataset.name,
                uri=str(json.loads(entry.dataset.source).get("uri", "")),
                digest=entry.dataset.digest,
                context=tags.get(_CONTEXT, ""),
                profile=json.loads(entry.dataset.profile or "{}"),
            )
        )
    return found
