"""The work of a relabelling process: features of parts, and new masks of parts."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fss.collection import ClassIndex, Collection, MaskSet
from fss.collection.part_pipeline import ALL_ROWS, RowSelection
from fss.models import FewShotSegmenter
from fss.models.config import Precision
from fss.models.precision import set_precision
from fss.models.speed import prepare_inference
from fss.relabel import RelabelConfig
from fss.relabel.class_bank import bank_reader, build_bank
from fss.relabel.part_relabelling import feature_parts, relabel_parts
from fss.relabel.relabeller import Relabeller
from fss.relabel.support_bank import Position, support_reader
from fss.relabel.supports import shot_reader
from fss.relabel.votes import Voter
from pipelines.relabeling.config import LabelledShots
from pipelines.runtime.config import Device
from pipelines.runtime.model_source import ModelSource, load_model

Outcomes = Iterator[tuple[str, Mapping[str, Any] | Exception]]


def labelled_pictures(shots: LabelledShots) -> tuple[MaskSet, dict[int, dict[str, Position]]]:
    """Return the mask set of labelled shots, and the positions of the images of each class by image id.

    Raises:
        ValueError: no collection is given, or there is no such collection, mask set or class split.
    """
    masks = labelled_masks(shots)
    collection = masks.collection
    if shots.classes is not None and shots.classes not in collection.class_splits:
        splits = ", ".join(collection.class_splits) or "none"
        raise ValueError(f"{collection.uri} has no class split {shots.classes!r}; its splits are {splits}")
    index = ClassIndex.build(masks)
    class_ids = list(index) if shots.classes is None else collection.class_splits[shots.classes]
    return masks, {c: {entry.image_id: (entry.part, entry.row) for entry in index.get(c, ())} for c in class_ids}


def labelled_masks(shots: LabelledShots) -> MaskSet:
    """Return the mask set of labelled shots.

    Raises:
        ValueError: no collection is given, or there is no such collection or mask set.
    """
    if shots.collection is None:
        raise ValueError("relabel.supports is bank, which needs labelled shots; give --bank.collection")
    return Collection.open(shots.collection).mask_set(shots.mask_set)


@dataclass(frozen=True, kw_only=True)
class RelabelTask:
    """Inputs, outputs and settings of a relabelling process; picklable."""

    collection: str
    """URI of the collection."""
    mask_set: str
    """Name of the previous mask set."""
    acceptance: str | None
    """Acceptance of the previous masks that can be supports; None: all of them."""
    output_mask_set: str
    """Name of the new mask set."""
    identity: str
    """Configuration hash of the new set; it differs for different models at one URI."""
    model: ModelSource
    """Segmenter."""
    image_size: int
    """Side of the segmenter's images in pixels."""
    earlier: tuple[ModelSource, ...]
    """Earlier checkpoints of the segmenter."""
    config: RelabelConfig
    """Settings of the masks."""
    bank: LabelledShots
    """Labelled shots of the class bank."""
    device: Device
    """Resolved device of the networks."""
    precision: Precision
    """Precision of the networks."""
    cache_gb: float
    """Gigabytes of support features that each network caches."""

    def masks(self) -> MaskSet:
        """Open the new set."""
        return Collection.open(self.collection).mask_set(self.output_mask_set)

    def masks_before(self) -> MaskSet:
        """Open the previous set."""
        return Collection.open(self.collection).mask_set(self.mask_set)


def make_features(parts: Sequence[str], *, task: RelabelTask, selection: RowSelection = ALL_ROWS) -> Outcomes:
    """Write the features of some parts, and yield each part with its statistics or its error."""
    return feature_parts(
        parts,
        masks=task.masks(),
        current=task.masks_before(),
        segmenter=_segmenter(task)[0],
        dims=task.config.dims,
        seed=task.config.seed,
        device=task.device,
        selection=selection,
    )


def make_masks(parts: Sequence[str], *, task: RelabelTask, selection: RowSelection = ALL_ROWS) -> Outcomes:
    """Write the masks of some parts, and yield each part with its statistics or its error."""
    return relabel_parts(
        parts, masks=task.masks(), current=task.masks_before(), relabeller=_relabeller(task), selection=selection
    )


def one_part(
    part: str, selection: RowSelection = ALL_ROWS, *, make: Callable[..., Outcomes], task: RelabelTask
) -> Mapping[str, Any]:
    """Make one part and return its statistics, or raise its error."""
    ((_, outcome),) = make([part], task=task, selection=selection)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@functools.lru_cache(maxsize=1)
def _segmenter(task: RelabelTask) -> tuple[FewShotSegmenter, Precision]:
    """Load the segmenter once per process, with the precision that its passes need."""
    set_precision(task.precision, task.device)
    return _prepared(task.model, task)


def _prepared(model: ModelSource, task: RelabelTask) -> tuple[FewShotSegmenter, Precision]:
    segmenter = load_model(model).to(task.device)
    return segmenter, prepare_inference(segmenter, task.precision).autocast


@functools.lru_cache(maxsize=1)
def _relabeller(task: RelabelTask) -> Relabeller:
    """Build the relabeller once per process, because it caches encoded supports."""
    (segmenter, precision), bank = _segmenter(task), None
    size = segmenter.config.image_size
    if task.config.supports == "bank":
        labelled, pictures = labelled_pictures(task.bank)
        otherwise, limits = bank_reader(labelled, size), labelled.collection.limits
    else:
        otherwise, limits = shot_reader(task.masks_before(), size), task.masks_before().collection.limits
    read = support_reader(task.masks(), size, limits, otherwise)
    if task.config.supports == "bank":
        bank = build_bank(segmenter, pictures, read, task.config)
    networks = [(segmenter, precision), *(_prepared(model, task) for model in task.earlier)]
    options: dict[str, Any] = {"device": task.device, "cache_gb": task.cache_gb}
    voter, *earlier = [Voter(network, read, precision=precision, **options) for network, precision in networks]
    return Relabeller(task.config, voter, earlier=earlier, bank=bank)
