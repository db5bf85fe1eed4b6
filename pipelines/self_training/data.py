"""What a three-stage self-training reads: pictures, labels, masks of the stage before, validation pictures."""

from dataclasses import dataclass

from fss.collection import Collection, MaskSet
from fss.collection.class_map import ClassTable
from fss.evaluation.semantic import ConfusionMatrix
from fss.models.semantic.network import SemanticNetwork
from fss.training.semi_supervised.batches import SemanticStream
from fss.training.semi_supervised.config import LabelledConfig, Stage
from fss.training.semi_supervised.mask_writer import evaluate_network
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import SemanticRows, scan_rows
from pipelines.self_training.config import STABLE, SelfTrainConfig


@dataclass(frozen=True, kw_only=True)
class SelfTrainData:
    """The collection of a training."""

    collection: Collection
    """All pictures."""
    table: ClassTable
    """Numbers of the classes."""
    truth: MaskSet
    """Labels."""


def open_data(config: SelfTrainConfig) -> SelfTrainData:
    """Open the collection; ValueError where there is none, or one without labels."""
    collection = Collection.open(config.collection)
    truth = collection.mask_set(config.labelled.mask_set)
    return SelfTrainData(collection=collection, table=ClassTable(collection.classes), truth=truth)


def stage_rows(data: SelfTrainData, config: SelfTrainConfig, stage: Stage) -> SemanticRows:
    """Find the rows of a stage."""
    accepted = None
    if stage == 2 and config.stable_share is not None:
        accepted = data.collection.mask_set(config.mask_set(1)).read_acceptance(STABLE).accepted
    return scan_rows(data.collection, config.labelled, accepted=accepted)


def open_stream(data: SelfTrainData, config: SelfTrainConfig, stage: Stage, *, rank: int, world: int) -> SemanticStream:
    """Open a worker's share of a stage's batches."""
    batch = config.training.stage(stage)
    before = {2: 1, 3: 2}.get(stage)
    return SemanticStream(
        SemanticReader(data.collection, data.table, shrink=config.stream.shrink, cache_gb=config.stream.cache_gb),
        stage_rows(data, config, stage),
        config.stream,
        truth=data.truth,
        pseudo=data.collection.mask_set(f"{config.masks}-{before}") if before else None,
        labelled=batch.labelled,
        pool=batch.pool,
        rank=rank,
        world=world,
    )


class Validator:
    """Measures networks on the validation pictures."""

    def __init__(self, config: SelfTrainConfig, table: ClassTable):
        """Open the validation collection.

        Raises:
            ValueError: there is none, or none of its pictures has a mask.
        """
        assert config.val_collection is not None
        collection = Collection.open(config.val_collection)
        self._truth = collection.mask_set(config.val_mask_set)
        self._rows = scan_rows(collection, LabelledConfig(mask_set=config.val_mask_set))
        self._reader = SemanticReader(collection, table, shrink=config.stream.shrink)

    def measure(self, network: SemanticNetwork) -> ConfusionMatrix:
        """Compare the network's answers with the truth."""
        return evaluate_network(network, self._reader, self._rows, self._truth)


def data_hashes(data: SelfTrainData, config: SelfTrainConfig) -> dict[str, str]:
    """Return what tells the data apart: the pictures, their labels, those that count as labelled, and those judged by.

    Raises:
        ValueError: no such collection, mask set or list, or no labelled picture.
    """
    found = {"collection": data.collection.fingerprint(), "truth": data.truth.config_hash}
    found["labelled"] = stage_rows(data, config, 1).hash
    if config.val_collection:
        val = Collection.open(config.val_collection)
        found |= {"val": val.fingerprint(), "val truth": val.mask_set(config.val_mask_set).config_hash}
    return found
