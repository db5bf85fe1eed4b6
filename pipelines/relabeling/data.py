"""The inputs of a relabelling, opened once: previous masks, models and labelled shots."""

from dataclasses import dataclass
from typing import Any, Self

from fss.collection import Collection, MaskSet
from fss.collection.acceptance_file import Acceptance
from fss.core.config import to_dict
from pipelines.relabeling.config import RelabelJobConfig
from pipelines.relabeling.task import labelled_pictures
from pipelines.runtime.model_source import ModelSource, inspect_model, model_source


@dataclass(frozen=True, kw_only=True)
class RelabelData:
    """The data of a relabelling."""

    collection: Collection
    """Collection to relabel."""
    parts: list[str]
    """Names of the parts to relabel."""
    masks_before: MaskSet
    """Mask set with the masks of the supports; it has all parts."""
    acceptance_before: Acceptance | None
    """Acceptance of the masks that can be supports. None: all masks."""
    truth: MaskSet | None
    """Mask set with the ground truth of some pictures. None: there is none."""
    models: tuple[ModelSource, ...]
    """The segmenter, and earlier checkpoints of its training."""
    image_size: int
    """Side of the images of all models in pixels."""
    identity: dict[str, Any]
    """Plain values that determine the masks: content hashes and settings."""

    @classmethod
    def open(cls, config: RelabelJobConfig) -> Self:
        """Open all inputs of a configuration.

        Raises:
            ValueError: there is no such collection, mask set, acceptance, class split or model, the previous mask
                set lacks parts, or the models have different image sizes.
        """
        collection = Collection.open(config.collection)
        parts = collection.first_parts(config.limit)
        before = collection.mask_set(config.mask_set)
        before.require_parts(parts)
        acceptance = before.read_acceptance(config.acceptance) if config.acceptance else None
        models = tuple(model_source(uri, tracking=config.tracking.uri) for uri in (config.model, *config.earlier))
        hashes, image_size = _inspect(models, collection)
        return cls(
            collection=collection,
            parts=parts,
            masks_before=before,
            acceptance_before=acceptance,
            truth=collection.mask_set(config.truth_mask_set) if config.truth_mask_set else None,
            models=models,
            image_size=image_size,
            identity=_identity(config, hashes, before, acceptance),
        )


def _inspect(models: tuple[ModelSource, ...], pictures: Collection) -> tuple[list[str], int]:
    """Return the hashes of models, and the size that their images have."""
    hashes, sizes = zip(*(inspect_model(model, pictures) for model in models), strict=True)
    if other_sizes := set(sizes) - {sizes[0]}:
        raise ValueError(
            f"the model has images of {sizes[0]} pixels, but an earlier checkpoint of {min(other_sizes)}; give "
            "checkpoints of one training"
        )
    return list(hashes), sizes[0]


def _identity(
    config: RelabelJobConfig, hashes: list[str], before: MaskSet, acceptance: Acceptance | None
) -> dict[str, Any]:
    identity: dict[str, Any] = {
        "model": hashes[0],
        "earlier": hashes[1:],
        "config": to_dict(config.relabel),
        "masks of before": before.config_hash,
        "acceptance of before": acceptance and acceptance.hash,
    }
    if config.relabel.supports == "bank":
        labelled, pictures = labelled_pictures(config.bank)
        identity["bank"] = [labelled.collection.fingerprint(), labelled.config_hash, sorted(pictures)]
    if config.precision is not None:  # left out otherwise, so that mask sets of earlier versions resume
        identity["precision"] = config.precision
    return identity
