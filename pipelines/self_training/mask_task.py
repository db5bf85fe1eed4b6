"""The work of a process that makes masks of a stage."""

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fss.collection import Collection
from fss.collection.class_map import ClassTable
from fss.collection.part_pipeline import ALL_ROWS, RowSelection
from fss.core import storage
from fss.models.config import Precision
from fss.models.precision import set_precision
from fss.models.semantic.checkpoint import load_semantic, semantic_weights
from fss.models.speed import prepare_inference
from fss.training.semi_supervised.config import MaskTta
from fss.training.semi_supervised.mask_writer import SemanticMasker, write_semantic_parts
from pipelines.runtime.config import Device


@dataclass(frozen=True, kw_only=True)
class StageMaskTask:
    """Inputs, outputs and settings of the process; picklable."""

    collection: str
    """URI of the collection."""
    mask_set: str
    """Name of the new mask set."""
    identity: str
    """Configuration hash of the mask set; it differs for different models at one URI."""
    model: str
    """Checkpoint of the network, reachable from every node."""
    earlier: tuple[str, ...]
    """Earlier checkpoints, whose agreement with the network is a score."""
    shrink: int
    """Divisor of the sides of the pictures."""
    confidence: float | None
    """Probability below which a pixel is ignored. None: no pixel is ignored."""
    tta: MaskTta
    """Passes whose mean makes the masks."""
    device: Device
    """Resolved device of the networks."""
    precision: Precision = "fp32"
    """Precision of the networks."""


def stage_masks(
    parts: Sequence[str], *, task: StageMaskTask, selection: RowSelection = ALL_ROWS
) -> Iterator[tuple[str, Mapping[str, Any] | Exception]]:
    """Write the masks of some parts, and yield each part with its statistics or its error."""
    masks = Collection.open(task.collection).mask_set(task.mask_set)
    return write_semantic_parts(parts, masks=masks, masker=_masker(task), selection=selection)


def stage_mask_part(part: str, selection: RowSelection = ALL_ROWS, *, task: StageMaskTask) -> Mapping[str, Any]:
    """Write the masks of one part and return its statistics, or raise its error."""
    ((_, outcome),) = stage_masks([part], task=task, selection=selection)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def model_hash(model: str) -> str:
    """Return 16 hex digits of the SHA-256 of a checkpoint's weights."""
    return hashlib.sha256(storage.read_bytes(semantic_weights(model))).hexdigest()[:16]


@functools.lru_cache(maxsize=1)
def _masker(task: StageMaskTask) -> SemanticMasker:
    """Load the networks once per process."""
    set_precision(task.precision, task.device)
    network, *earlier = (load_semantic(uri)[0].to(task.device) for uri in (task.model, *task.earlier))
    paths = [prepare_inference(each, task.precision) for each in (network, *earlier)]
    table = ClassTable(Collection.open(task.collection).classes)
    return SemanticMasker(
        network=network,
        table=table,
        earlier=tuple(earlier),
        shrink=task.shrink,
        confidence=task.confidence,
        tta=task.tta,
        precision=paths[0].autocast,
    )
