"""The inputs of a run as MLflow datasets, so that a model can be traced back to its photographs.

A dataset is a collection or one of its mask sets. Its digest is a hash of the content, and its profile contains further
plain values. ``pipelines.lineage`` reads them back.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fss.collection import Collection, MaskSet
from fss.core.privacy import HIDDEN
from fss.core.redaction import redact_passwords
from fss.tracking.delivery import DatasetId
from fss.tracking.privacy import public_profile
from fss.tracking.run import Run, tracking_client

_CONTEXT = "mlflow.data.context"


@dataclass(frozen=True, kw_only=True)
class LoggedDataset:
    """A dataset that a run has logged as its input."""

    name: str
    """Name of the collection, followed by that of the mask set if there is one; hidden if the run is private."""
    uri: str
    """URI of the collection; hidden if the run is private."""
    digest: str
    """Hash of the content at the time of the run."""
    context: str
    """Use of the data: training, validation, evaluation, pseudo-masks, ..."""
    profile: dict[str, Any]
    """Counts and hashes of the data."""


def log_dataset(
    run: Run,
    data: Collection | MaskSet,
    *,
    context: str,
    fingerprint: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> DatasetId:
    """Log an input of a run as an MLflow dataset, and return its name and digest, for metrics that it gives.

    Args:
        run: run to log to.
        data: collection, or mask set together with its collection.
        context: use of the data, such as ``"training"``.
        fingerprint: fingerprint of the collection; None computes it.
        details: further plain values for the profile.
    """
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    collection = data.collection if isinstance(data, MaskSet) else data
    name, digest = collection.name, fingerprint or collection.fingerprint()
    profile: dict[str, Any] = {"collection": digest, **(details or {})}
    if isinstance(data, MaskSet):
        name, digest = f"{name}/{data.name}", f"{digest}-{data.config_hash}"
        profile |= {"mask_set": data.name, "mask_set_hash": data.config_hash}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns that a folder matches two kinds of local source
        source = resolve_dataset_source(HIDDEN if run.private else redact_passwords(collection.uri))
    dataset = MetaDataset(source, name=HIDDEN if run.private else name, digest=digest)  # type: ignore[abstract]
    if run.private:
        profile = public_profile(profile)
    entity = dataset.to_dict() | {"profile": json.dumps(profile)}
    run.log("input", dataset=entity, tags={_CONTEXT: context})
    return str(entity["name"]), str(entity["digest"])


def logged_datasets(uri: str, run_id: str) -> list[LoggedDataset]:
    """Return the datasets that a run of a tracking store has logged."""
    datasets = []
    for entry in tracking_client(uri).get_run(run_id).inputs.dataset_inputs:
        tags = {tag.key: tag.value for tag in entry.tags}
        datasets.append(
            LoggedDataset(
                name=entry.dataset.name,
                uri=str(json.loads(entry.dataset.source).get("uri", "")),
                digest=entry.dataset.digest,
                context=tags.get(_CONTEXT, ""),
                profile=json.loads(entry.dataset.profile or "{}"),
            )
        )
    return datasets
